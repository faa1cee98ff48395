// The page in a real browser: an attack as it happens.

import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type Browser, chromium, type Page } from 'playwright-core';
import { createDashboard, type DashboardOptions } from 'relay-limiter/dashboard';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { CHROMIUM, FLAGS, hasChromium } from '../support/chromium.js';
import { ban, limiters, served } from './support.js';

const TOKEN = 'correct-horse.battery~staple';
/** Milliseconds that the browser has for anything: a busy machine is only slower. */
const PATIENCE = 240_000;

describe.skipIf(!hasChromium('the tests of the dashboard in a browser'))('in chromium', () => {
  let browser: Browser;

  beforeAll(async () => {
    const timeout = PATIENCE;
    browser = await chromium.launch({ executablePath: CHROMIUM, args: FLAGS, timeout });
  });
  afterAll(() => browser?.close());

  /** Opens the page; whatever goes wrong there is in `wrong`, and must not be by the test's end. */
  async function open(url: string, options: Parameters<Browser['newPage']>[0] = {}) {
    const page = await browser.newPage(options);
    page.setDefaultTimeout(PATIENCE);
    const wrong: string[] = [];
    page.on('console', (message) => {
      if (['error', 'warning'].includes(message.type())) wrong.push(message.text());
    });
    page.on('pageerror', (error) => wrong.push(String(error)));
    page.on('request', (request) => {
      if (new URL(request.url()).origin !== new URL(url).origin) wrong.push(request.url());
    });
    await page.addInitScript(() => {
      document.addEventListener('securitypolicyviolation', (event) => {
        console.error(`violates ${event.violatedDirective}: ${event.blockedURI}`);
      });
    });
    onTestFinished(() => page.close());
    await page.goto(url);
    return { page, wrong };
  }

  const text = (page: Page, selector: string) => page.textContent(selector);
  const number = async (page: Page, id: string) =>
    Number((await text(page, `#${id}`))?.replace(/,/g, ''));

  test('it shows the flood rising, the ban appearing, the lifted ban disappearing', async () => {
    const { url, messages, books } = await served({ intervalSeconds: 0.2, title: 'Relay <1>' });
    const { page, wrong } = await open(url);
    await expect.poll(() => text(page, '#status')).toBe('Live');
    expect(await page.title()).toBe('Relay <1>');
    expect(await text(page, '#no-bans')).toBe('Nobody is banned.');
    expect(await page.isVisible('#bans')).toBe(false);

    // The same checks precede each sample.
    const getOverview = messages.getOverview.bind(messages);
    messages.getOverview = () => {
      for (let n = 0; n < 98; n += 1) messages.check('flooder');
      for (let n = 0; n < 2; n += 1) messages.check('honest', 0);
      return getOverview();
    };
    // In the first sample the burst is allowed; from the second on all of the flooder is refused.
    await expect.poll(() => text(page, '#refused')).toBe('98% refused');
    expect(await number(page, 'disconnect')).toBeGreaterThan(0);
    expect(await number(page, 'tracked')).toBe(2);
    expect(await text(page, '#violators tbody tr:first-child .key')).toBe('flooder');
    await expect.poll(() => painted(page, '#verdicts-chart canvas', [200, 29, 101])).toBe(true);

    ban(books, 'mallory');
    ban(books, 'eve');
    await page.waitForSelector('#bans tbody tr:nth-child(2)');
    expect(await page.isVisible('#no-bans')).toBe(false);
    const row = page.locator('#bans tbody tr', { hasText: 'mallory' });
    expect(await row.innerText()).toMatch(/^mallory\s+books\s+\d+\s+\d+ min \d+ s\s+Lift$/);
    await row.getByRole('button', { name: 'Lift the ban of mallory' }).focus();
    await page.keyboard.press('Enter');
    await expect.poll(() => page.locator('#bans tbody tr').allInnerTexts()).toHaveLength(1);
    expect(await text(page, '#bans tbody .key')).toBe('eve');
    await expect.poll(() => text(page, '#news')).toBe('Lifted the ban of mallory');
    expect(books.isBanned('mallory')).toBe(false);
    expect(wrong).toEqual([]);
  });

  test('keys are text, whatever is in them, and may be lifted', async () => {
    const { url, books } = await served({ intervalSeconds: 0.2 });
    const keys = [
      '<img src=x onerror=alert(1)>',
      '\u202egnp.exe',
      'half \ud83d',
      '',
      'k'.repeat(3000),
      `${'k'.repeat(2999)}l`,
    ];
    for (const key of keys) ban(books, key);
    const { page, wrong } = await open(url);
    await page.waitForSelector('#bans tbody tr:nth-child(6)');
    const shown = await page.locator('#bans .key').allTextContents();
    expect(shown.sort()).toEqual([
      '(empty)',
      '<img src=x onerror=alert(1)>',
      '\\u{202e}gnp.exe',
      'half \\u{d83d}',
      `${'k'.repeat(80)}…`,
      `${'k'.repeat(80)}…`,
    ]);
    expect(await page.locator('#bans img').count()).toBe(0);
    // Two that are cut alike are told apart, and lifted one by one.
    const buttons = page.locator('#bans button');
    expect(await buttons.first().getAttribute('title')).toContain('violations');
    for (let left = 6; left > 0; left -= 1) {
      await buttons.first().click();
      await expect.poll(() => buttons.count()).toBe(left - 1);
      expect(books.getBans().count).toBe(left - 1);
    }
    expect(wrong).toEqual([]);
  });

  test('one limiter may be chosen', async () => {
    const { url, messages, books } = await served({ intervalSeconds: 0.2 });
    for (let n = 0; n < 12; n += 1) messages.check('flooder');
    ban(books, 'mallory');
    const { page } = await open(url);
    await page.waitForSelector('#violators tbody tr:nth-child(2)');
    await page.selectOption('#limiter', { label: 'messages (RateLimiter)' });
    expect(await page.locator('#violators .key').allTextContents()).toEqual(['flooder']);
    expect(await page.isVisible('#no-bans')).toBe(true);
    expect(await text(page, '#banned')).toBe('0');
    expect(await text(page, '#tracked-note')).toBe('');
    await page.selectOption('#limiter', { label: 'All limiters' });
    expect(await text(page, '#tracked-note')).toBe('in sum');
  });

  test('a ban that is over cannot be lifted, and it says so', async () => {
    const { url, books } = await served({ intervalSeconds: 3600 });
    ban(books, 'mallory');
    const { page } = await open(url);
    await page.waitForSelector('#bans tbody tr');
    books.removePeer('mallory');
    await page.locator('#bans button').click();
    await expect.poll(() => text(page, '#news')).toBe('There is no ban any more of mallory');
  });

  test('it says when the server goes, and goes on when it is back', async () => {
    const dashboard = createDashboard({ limiters: limiters(), intervalSeconds: 0.2 });
    let isAway = false;
    const server = createServer((request, response) => {
      if (isAway) request.socket.destroy();
      else dashboard(request, response);
    }).listen(0, '127.0.0.1');
    onTestFinished(() => {
      dashboard.close();
      server.closeAllConnections();
      server.close();
    });
    await once(server, 'listening');
    const { page } = await open(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
    await expect.poll(() => text(page, '#status')).toBe('Live');
    isAway = true;
    server.closeAllConnections();
    await expect.poll(() => text(page, '#status')).toMatch(/^The connection is lost/);
    isAway = false;
    await expect.poll(() => text(page, '#status')).toBe('Live');
  });

  test.each(['light', 'dark'] as const)('it fits a phone, %s', async (colorScheme) => {
    const { url, books } = await served({ intervalSeconds: 0.2 });
    ban(books, 'a-nick-that-is-longer-than-any-phone-is-wide-'.repeat(4));
    const viewport = { width: 360, height: 740 };
    const { page, wrong } = await open(url, { viewport, colorScheme });
    await page.waitForSelector('#bans tbody tr');
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(360);
    const button = await page.locator('#bans button').boundingBox();
    expect((button?.x ?? 360) + (button?.width ?? 0)).toBeLessThanOrEqual(360);
    const light = await page.evaluate(() => {
      const [red = 0] = getComputedStyle(document.body).backgroundColor.match(/\d+/g) ?? [];
      return Number(red) > 128;
    });
    expect(light).toBe(colorScheme === 'light');
    expect(wrong).toEqual([]);
  });

  test('with a token: asked for once, and gone from the address', async () => {
    const options: Partial<DashboardOptions> = { token: TOKEN, path: '/limits' };
    const { url, books } = await served({ ...options, intervalSeconds: 0.2 });
    ban(books, 'mallory');
    const { page } = await open(url);
    await page.getByLabel('This dashboard needs its token').fill(TOKEN);
    await page.keyboard.press('Enter');
    await page.waitForSelector('#bans tbody tr');
    expect(page.url()).toBe(url);
    await page.locator('#bans button').click();
    await expect.poll(() => page.isVisible('#no-bans')).toBe(true);
  });
});

/** Whether a canvas has any pixel of about this colour. */
function painted(page: Page, selector: string, color: number[]): Promise<boolean> {
  return page.evaluate(
    ([selector, color]) => {
      const canvas = document.querySelector(selector as string) as HTMLCanvasElement;
      const context = canvas.getContext('2d') as CanvasRenderingContext2D;
      const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
      for (let i = 0; i < data.length; i += 4) {
        const near = (color as number[]).every(
          (value, k) => Math.abs(Number(data[i + k]) - value) < 16,
        );
        if (near && Number(data[i + 3]) > 200) return true;
      }
      return false;
    },
    [selector, color] as const,
  );
}
