// The playground in a real browser, opened from its file, as built.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Page } from 'playwright-core';
import { describe, expect, onTestFinished, test } from 'vitest';
import { type PageOptions, useBrowser } from '../support/browser.js';
import { hasChromium } from '../support/chromium.js';
import { ROOT } from '../support/processes.js';

const FILE = pathToFileURL(join(ROOT, 'out/playground/index.html')).href;

describe.skipIf(!hasChromium('the tests of the playground in a browser'))('the playground', () => {
  const browser = useBrowser();

  /** Opens the page at its end. `wrong` lists errors and requests; a test expects it to be empty in the end. */
  async function open(options: PageOptions = {}, url = FILE) {
    const page = await browser.newPage({ reducedMotion: 'reduce', ...options });
    const wrong: string[] = [];
    page.on('console', (message) => wrong.push(message.text()));
    page.on('pageerror', (error) => wrong.push(String(error)));
    page.on('request', (request) => {
      const to = request.url();
      if (!to.startsWith(FILE) && !to.startsWith('data:')) wrong.push(to);
    });
    await page.goto(url);
    return { page, wrong };
  }

  const lane = (page: Page, name: string) =>
    page.locator('#lanes .lane').filter({ has: page.getByRole('heading', { name, exact: true }) });
  const numbers = async (page: Page, name: string) =>
    lane(page, name).locator('.numbers').first().textContent();
  const setting = (page: Page, label: string) => page.getByLabel(label, { exact: true });

  test('draws a flood, its bans and the peers beside it', async () => {
    const { page, wrong } = await open();
    expect(await page.locator('#lanes h3').allTextContents()).toEqual([
      'flooder',
      'steady',
      'bursty',
    ]);
    // 2 per second for a minute, and 15 every ten seconds.
    expect(await numbers(page, 'steady')).toBe('120 of 120 allowed');
    expect(await numbers(page, 'bursty')).toBe('90 of 90 allowed');
    expect(await lane(page, 'flooder').locator('.ban').count()).toBe(3);
    expect(await lane(page, 'steady').locator('.ban').count()).toBe(0);
    expect(await page.getByRole('img', { name: /^steady: 120 of 120/ }).count()).toBe(1);
    expect(wrong).toEqual([]);
  });

  test('moves buckets, verdicts and counts with the time', async () => {
    const { page, wrong } = await open();
    const time = page.getByLabel('Time, seconds');
    await time.fill('0');
    expect(await numbers(page, 'bursty')).toBe('15 of 15 allowed');
    expect(await lane(page, 'bursty').locator('figcaption span').textContent()).toBe('5 of 20');
    await time.fill('2.5');
    expect(await lane(page, 'bursty').locator('figcaption span').textContent()).toBe('15 of 20');
    await time.fill('12');
    expect(await lane(page, 'flooder').locator('.state').textContent()).toMatch(
      /^banned: .* s left$/,
    );
    // By keyboard.
    await time.focus();
    await page.keyboard.press('Home');
    expect(await page.locator('#now').textContent()).toBe('0.0 s');
    await page.keyboard.press('ArrowRight');
    expect(await page.locator('#now').textContent()).toBe('0.1 s');
    // By a click in the middle of a picture.
    await lane(page, 'bursty').locator('.plot').click();
    expect(await time.inputValue()).toMatch(/^(29\.9|30|30\.1)$/);
    expect(wrong).toEqual([]);
  });

  test('plays to the end, and pauses', async () => {
    const { page, wrong } = await open({ reducedMotion: 'no-preference' });
    const button = page.locator('#play');
    const time = page.locator('#time');
    expect(await button.textContent()).toBe('Pause');
    await expect.poll(async () => Number(await time.inputValue())).toBeGreaterThan(0);
    await button.click();
    expect(await button.textContent()).toBe('Play');
    await time.fill('59.9');
    await button.click();
    await expect.poll(() => time.inputValue()).toBe('60');
    await expect.poll(() => button.textContent()).toBe('Play');
    expect(wrong).toEqual([]);
  });

  test('follows a slider, a number and a text, and the text follows them', async () => {
    const { page, wrong } = await open();
    // It sends two per second, so the burst is used up after 20 seconds.
    await setting(page, 'messages: rate, tokens per second, exactly').fill('1');
    await expect.poll(() => numbers(page, 'steady')).not.toBe('120 of 120 allowed');
    const options = page.locator('#options');
    expect(JSON.parse(await options.inputValue()).rules.messages.rateLimit).toBe(1);
    await setting(page, 'messages: rate, tokens per second').focus();
    await page.keyboard.press('End');
    await expect.poll(() => numbers(page, 'steady')).toBe('120 of 120 allowed');
    expect(JSON.parse(await options.inputValue()).rules.messages.rateLimit).toBe(1000);
    await setting(page, 'steady: messages per second, exactly').fill('3');
    await expect.poll(() => numbers(page, 'steady')).toBe('180 of 180 allowed');

    const edited = JSON.parse(await options.inputValue());
    edited.deny = { address: ['192.0.2.0/24'] };
    await options.fill(JSON.stringify(edited));
    await expect.poll(() => numbers(page, 'steady')).toBe('0 of 180 allowed');
    expect(await lane(page, 'steady').locator('.bars.denied').getAttribute('d')).not.toBe('');
    expect(wrong).toEqual([]);
  });

  test('keeps the last picture and names the error of an invalid text or number', async () => {
    const { page, wrong } = await open();
    const error = page.getByRole('alert');
    const options = page.locator('#options');
    const before = await options.inputValue();
    await options.fill('{');
    expect(await error.textContent()).toMatch(/^The text is no JSON: /);
    await options.fill('{"scopes":{"a":{}}}');
    expect(await error.textContent()).toMatch(/rules must be/);
    // It stays as it was typed.
    await page.locator('#play').focus();
    expect(await options.inputValue()).toBe('{"scopes":{"a":{}}}');
    await options.fill(before);
    expect(await error.isVisible()).toBe(false);
    await setting(page, 'messages: rate, tokens per second, exactly').fill('0');
    await expect.poll(() => error.textContent()).toMatch(/rateLimit must be/);
    expect(await numbers(page, 'steady')).toBe('120 of 120 allowed');
    await setting(page, 'messages: rate, tokens per second, exactly').fill('4');
    await expect.poll(() => error.isVisible()).toBe(false);
    expect(wrong).toEqual([]);
  });

  test('adds and removes rules, bans and senders', async () => {
    const { page, wrong } = await open();
    await page.locator('#add-rule').click();
    await expect.poll(() => lane(page, 'flooder').locator('.bucket').count()).toBe(2);
    await setting(page, 'remove rule 2').click();
    await expect.poll(() => lane(page, 'flooder').locator('.bucket').count()).toBe(1);
    await page.getByRole('checkbox', { name: 'by address' }).uncheck();
    await expect.poll(() => lane(page, 'flooder').locator('.ban').count()).toBe(0);
    await page.locator('#add-sender').click();
    await expect.poll(() => numbers(page, 'sender 4')).toBe('120 of 120 allowed');
    await setting(page, 'remove flooder').click();
    await expect.poll(() => page.locator('#lanes .lane').count()).toBe(3);
    expect(wrong).toEqual([]);
  });

  test('shows the same by a link', async () => {
    const { page, wrong } = await open();
    await setting(page, 'flooder: messages per second, exactly').fill('7');
    await expect.poll(() => page.url()).toContain('#');
    const { page: other } = await open({}, page.url());
    expect(await setting(other, 'flooder: messages per second, exactly').inputValue()).toBe('7');
    expect(await numbers(other, 'flooder')).toBe(await numbers(page, 'flooder'));
    // Another scenario is no longer that of the link.
    await other.selectOption('#preset', { label: 'Plans' });
    expect(other.url()).toBe(FILE);
    expect(wrong).toEqual([]);
  });

  test.each([390, 768, 1440, 2560])(
    'fits a window %i pixels wide, in every scenario',
    async (width) => {
      const { page, wrong } = await open({ viewport: { width, height: 900 } });
      const scenarios = await page.locator('#preset option').count();
      expect(scenarios).toBeGreaterThan(1);
      for (let index = 0; index < scenarios; index += 1) {
        await page.selectOption('#preset', String(index));
        const { scroll, cut } = await page.evaluate(() => {
          const all = [...document.querySelectorAll('main *')].filter(
            (element) => element.closest('svg') === null,
          );
          const outside = all.filter(
            (element) => element.getBoundingClientRect().right > innerWidth,
          );
          return { scroll: document.documentElement.scrollWidth, cut: outside.length };
        });
        expect({ scroll, cut }).toEqual({ scroll: width, cut: 0 });
      }
      expect(wrong).toEqual([]);
    },
  );

  test('keeps the pictures in view beside the last setting, whose text has no hidden end', async () => {
    const { page } = await open({ viewport: { width: 1440, height: 1000 } });
    await setting(page, 'Senders, JSON').focus();
    await page.evaluate(() => scrollTo(0, document.documentElement.scrollHeight));
    const box = await page.locator('.lane').first().boundingBox();
    expect(box?.y).toBeGreaterThan(0);
    expect(box?.y).toBeLessThan(500);
    for (const label of ['Options of the RuleLimiter, JSON', 'Senders, JSON']) {
      const widths = await setting(page, label).evaluate((text) => [
        text.scrollWidth,
        text.clientWidth,
      ]);
      expect(widths[0]).toBe(widths[1]);
    }
  });

  test('has other colours in the dark', async () => {
    const color = async (colorScheme: 'light' | 'dark') => {
      const { page } = await open({ colorScheme });
      return page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    };
    expect(await color('light')).toBe('rgb(245, 246, 248)');
    expect(await color('dark')).toBe('rgb(16, 19, 26)');
  });
});

test('npm run playground serves the page and prints its address first', async () => {
  const child = spawn(process.execPath, ['scripts/playground.mjs', '--port', '0'], { cwd: ROOT });
  onTestFinished(() => void child.kill());
  const [text] = (await once(child.stdout, 'data')) as [Buffer];
  const [, url = ''] = /^open (http:\/\/127\.0\.0\.1:\d+\/)\n/.exec(String(text)) ?? [];
  const response = await fetch(url);
  expect(response.headers.get('content-type')).toBe('text/html; charset=utf-8');
  expect(await response.text()).toContain('<title>relay-limiter playground</title>');
});
