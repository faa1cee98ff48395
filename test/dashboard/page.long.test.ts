// The page in a real browser, during an attack.

import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Page } from 'playwright-core';
import { createDashboard, type DashboardOptions } from 'relay-limiter/dashboard';
import { describe, expect, onTestFinished, test } from 'vitest';
import { PATIENCE, type PageOptions, useBrowser } from '../support/browser.js';
import { hasChromium } from '../support/chromium.js';
import { isInView, label, painted } from './page-support.js';
import { ban, limiters, ruleLimiter, served } from './support.js';

const TOKEN = 'correct-horse.battery~staple';

describe.skipIf(!hasChromium('the tests of the dashboard in a browser'))('in chromium', () => {
  const browser = useBrowser((page) =>
    page.addInitScript(() => {
      document.addEventListener('securitypolicyviolation', (event) => {
        console.error(`violates ${event.violatedDirective}: ${event.blockedURI}`);
      });
    }),
  );

  /** Opens the page. `wrong` lists errors, warnings and foreign requests; a test expects it to be empty in the end. */
  async function open(url: string, options: PageOptions = {}) {
    const page = await browser.newPage(options);
    const wrong: string[] = [];
    page.on('console', (message) => {
      if (['error', 'warning'].includes(message.type())) wrong.push(message.text());
    });
    page.on('pageerror', (error) => wrong.push(String(error)));
    page.on('request', (request) => {
      if (new URL(request.url()).origin !== new URL(url).origin) wrong.push(request.url());
    });
    await page.goto(url);
    return { page, wrong };
  }

  const text = (page: Page, selector: string) => page.textContent(selector);
  const number = async (page: Page, id: string) =>
    Number((await text(page, `#${id}`))?.replace(/,/g, ''));

  test.each([
    ['alone', { limiters: undefined }],
    ['beside limiters', {}],
  ])('it shows what all processes of shared limits have done, %s', async (_, options) => {
    let calls = 0;
    const messages = {
      async getFleetStats() {
        calls += 1;
        const verdicts = { allow: 1000, delay: 2000, disconnect: 5 };
        return { nodes: 4, verdicts, offenders: [{ key: 'flooder', refusals: 1999 }] };
      },
    };
    const down = { getFleetStats: () => Promise.reject(new Error('no store')) };
    const getBans = () => ({ count: 12, bans: [['mallory', 3600] as [string, number]] });
    const shared = { messages, down, bans: { getBans, share() {} } };
    const { url } = await served({ shared, intervalSeconds: 0.2, ...options });
    const { page, wrong } = await open(url);
    await page.waitForSelector('#offenders tbody tr');
    await expect
      .poll(() => page.locator('#fleets tbody tr').allInnerTexts())
      .toEqual([
        expect.stringMatching(/^messages\s+4\s+[–0]\s+[–0]\s+2,005$/),
        expect.stringMatching(/^down\s+the store does not answer(\s+–){4}$/),
      ]);
    expect(await page.innerText('#offenders tbody')).toMatch(/^flooder\s+messages\s+1,999$/);
    expect(await page.innerText('#shared-bans tbody')).toMatch(/^mallory\s+bans\s+1 h 0 min$/);
    expect(await text(page, '#shared-bans-note')).toBe('the 1 longest of 12');
    expect(await page.isVisible('#allow-chart')).toBe('limiters' in options === false);
    for (const width of [390, 1440]) {
      await page.setViewportSize({ width, height: 900 });
      expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(width);
    }
    expect(wrong).toEqual([]);
    expect(calls).toBeGreaterThan(0);
  });

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
    // The first sample contains the allowed burst; in later ones every check of the flooder is refused.
    await expect.poll(() => text(page, '#refused')).toBe('98% refused');
    expect(await number(page, 'disconnect')).toBeGreaterThan(0);
    expect(await number(page, 'tracked')).toBe(2);
    expect(await text(page, '#violators tbody tr:first-child .key')).toBe('flooder');
    await expect.poll(() => painted(page, '#refused-chart canvas', [200, 29, 101])).toBe(true);
    // Ten allowed checks per second beside 490 refused ones: the chart has a scale of its own, so its line is not flat.
    await expect.poll(() => painted(page, '#allow-chart canvas', [74, 114, 224], 0.3)).toBe(true);

    ban(books, 'mallory');
    ban(books, 'eve');
    await page.waitForSelector('#bans tbody tr:nth-child(2)');
    expect(await page.isVisible('#no-bans')).toBe(false);
    const row = page.locator('#bans tbody tr', { hasText: 'mallory' });
    expect(await row.innerText()).toMatch(/^mallory\s+books\s+\d+\s+\d+ min \d+ s\s+Lift$/);
    await row.getByRole('button', { name: 'Lift the ban of mallory in books' }).focus();
    await page.keyboard.press('Enter');
    await expect.poll(() => page.locator('#bans tbody tr').allInnerTexts()).toHaveLength(1);
    expect(await text(page, '#bans tbody .key')).toBe('eve');
    await expect.poll(() => text(page, '#news')).toBe('Lifted the ban of mallory in books');
    expect(books.isBanned('mallory')).toBe(false);
    expect(await page.locator('#began .key').allTextContents()).toEqual(['eve', 'mallory']);
    expect(await page.locator('#began td').first().textContent()).toMatch(/^\d\d:\d\d:\d\d$/);
    expect(wrong).toEqual([]);
  });

  test('what became of a lift is in view, the focus goes on, and it can be undone', async () => {
    const { url, books } = await served({ intervalSeconds: 0.2 });
    for (let n = 0; n < 30; n += 1) ban(books, `nick-${n}`);
    const { page, wrong } = await open(url, { viewport: { width: 1280, height: 700 } });
    await page.waitForSelector('#bans tbody tr:nth-child(30)');
    const names = await page.locator('#bans .key').allTextContents();
    const third = page.locator('#bans tbody tr:nth-child(3) button');
    await third.focus();
    await page.keyboard.press('Enter');
    await expect.poll(() => text(page, '#news')).toBe(`Lifted the ban of ${names[2]} in books`);
    await expect.poll(() => label(page)).toBe(`Lift the ban of ${names[3]} in books`);
    expect(await isInView(page, '#news')).toBe(true);

    await page.locator('#undo').focus();
    await page.keyboard.press('Enter');
    await expect.poll(() => text(page, '#news')).toMatch(/ in books again for \d+ min \d+ s$/);
    expect(books.isBanned(String(names[2]))).toBe(true);
    expect(books.getViolationCount(String(names[2]))).toBe(1);
    expect(await page.isVisible('#undo')).toBe(false);
    // The button that had the focus is gone.
    expect(await page.evaluate(() => document.activeElement?.id)).toBe('dismiss');
    await page.keyboard.press('Enter');
    expect(await isInView(page, '#news')).toBe(false);
    expect(await page.evaluate(() => document.activeElement?.id)).toBe('bans-title');
    expect(wrong).toEqual([]);
  });

  test('a row that goes by itself passes the focus to no other button', async () => {
    const { url, books } = await served({ intervalSeconds: 0.2 });
    for (const key of ['mallory', 'eve']) ban(books, key);
    const { page } = await open(url);
    await page.waitForSelector('#bans tbody tr:nth-child(2)');
    await page.locator('#bans tr', { hasText: 'mallory' }).locator('button').focus();
    books.removePeer('mallory');
    await expect.poll(() => page.locator('#bans tbody tr').count()).toBe(1);
    expect(await page.evaluate(() => document.activeElement?.id)).toBe('bans-title');
  });

  test('what the server refuses is said too', async () => {
    const { url, books } = await served({ intervalSeconds: 0.2 });
    ban(books, 'mallory');
    const { page } = await open(url);
    await page.waitForSelector('#bans tbody tr');
    await page.route('**/lift', (route) => route.abort());
    await page.locator('#bans button').click();
    const failed =
      'Could not lift the ban of mallory in books. The server did not answer: try again.';
    await expect.poll(() => text(page, '#news')).toBe(failed);
    await page.unroute('**/lift');
    await page.locator('#bans button').click();
    await expect.poll(() => text(page, '#news')).toBe('Lifted the ban of mallory in books');
  });

  test('a peer is found by its key as it is shown, banned by hand, and the ban is lifted', async () => {
    const { url, messages, books } = await served({ intervalSeconds: 0.2 });
    const key = 'a\u202eb\\c';
    for (let n = 0; n < 13; n += 1) messages.check(key);
    const { page, wrong } = await open(url, { viewport: { width: 360, height: 740 } });
    await page.waitForSelector('#violators tbody tr');
    await page.getByLabel('Key').fill(String(await text(page, '#violators .key')));
    await page.keyboard.press('Enter');
    const rows = () => page.locator('#found tbody tr').allInnerTexts();
    await expect
      .poll(rows)
      .toEqual([
        expect.stringMatching(/^messages\s+3\s+bans nobody/),
        expect.stringMatching(/^books\s+0\s+not banned\s+Ban/),
      ]);
    expect(await text(page, '#found-note')).toMatch(/^a\\u\{202e\}b\\\\c: not banned, as of /);
    await page.locator('#found').getByRole('button', { name: 'Ban' }).click();
    const dialog = page.getByRole('dialog');
    expect(await dialog.getByLabel('Seconds').inputValue()).toBe('600');
    await dialog.getByRole('button', { name: 'Cancel' }).click();
    expect(books.isBanned(key)).toBe(false);

    await page.locator('#found').getByRole('button', { name: 'Ban' }).click();
    await dialog.getByLabel('Seconds').fill('90');
    await page.keyboard.press('Enter');
    await expect.poll(() => text(page, '#news')).toMatch(/ in books for 1 min 30 s$/);
    expect(books.getBans().bans).toEqual([[key, 90]]);
    await expect.poll(rows).toContainEqual(expect.stringMatching(/^books\s+0\s+banned/));
    await expect.poll(() => page.evaluate(() => document.activeElement?.textContent)).toBe('Lift');
    await page.keyboard.press('Enter');
    await expect.poll(rows).toContainEqual(expect.stringMatching(/^books\s+0\s+not banned/));
    expect(books.isBanned(key)).toBe(false);
    expect(wrong).toEqual([]);
  });

  test('where it may not ban it offers neither a ban nor an undo', async () => {
    const { url, books } = await served({ intervalSeconds: 0.2, allowBan: false });
    ban(books, 'mallory');
    const { page } = await open(url);
    await page.locator('#bans button').click();
    await expect.poll(() => text(page, '#news')).toBe('Lifted the ban of mallory in books');
    expect(await page.isVisible('#undo')).toBe(false);
    await page.getByLabel('Key').fill('mallory');
    await page.keyboard.press('Enter');
    await page.waitForSelector('#found tbody tr');
    expect(await page.locator('#found button').count()).toBe(0);
  });

  test('more windows than a browser has connections are all live, by one stream', async () => {
    const watched = limiters();
    const dashboard = createDashboard({ limiters: watched });
    onTestFinished(() => dashboard.close());
    let streams = 0;
    const server = createServer((request, response) => {
      if (request.url === '/events') {
        streams += 1;
        response.on('close', () => {
          streams -= 1;
        });
      }
      dashboard(request, response);
    }).listen(0, '127.0.0.1');
    onTestFinished(() => {
      server.closeAllConnections();
      server.close();
    });
    await once(server, 'listening');
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
    const context = await browser.newContext();
    onTestFinished(() => context.close());
    const pages: Page[] = [];
    for (let n = 0; n < 7; n += 1) {
      const page = await context.newPage();
      page.setDefaultTimeout(PATIENCE);
      await page.goto(url);
      pages.push(page);
    }
    for (const page of pages) await expect.poll(() => text(page, '#status')).toBe('Live');
    await expect.poll(() => streams).toBe(1);

    const hide = (page: Page, hidden: boolean) =>
      page.evaluate((hidden) => {
        Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
        document.dispatchEvent(new Event('visibilitychange'));
      }, hidden);
    for (const page of pages) await hide(page, true);
    await expect.poll(() => streams).toBe(0);
    await hide(pages[0] as Page, false);
    await expect.poll(() => streams).toBe(1);
    watched.messages.check('mallory');
    await expect.poll(() => text(pages[0] as Page, '#tracked')).toBe('1');
    expect(await text(pages[1] as Page, '#tracked')).toBe('0');
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
      expect.stringMatching(/^k{48}… #[\w-]{16}$/),
      expect.stringMatching(/^k{48}… #[\w-]{16}$/),
    ]);
    expect(new Set(shown).size).toBe(6);
    expect(await page.locator('#bans img').count()).toBe(0);
    // Two keys with equal beginnings stay distinct, and their bans are lifted one by one.
    const buttons = page.locator('#bans button');
    expect(await text(page, '#lift-note')).toContain('violations');
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
    expect(await text(page, '#tracked-note')).toBe('sum of all limiters');
  });

  test('a RuleLimiter is shown as a whole and by its scopes, with a table of its rules', async () => {
    const relay = ruleLimiter();
    const { url } = await served({ limiters: { relay }, intervalSeconds: 0.2 });
    for (let n = 0; n < 5; n += 1) relay.check({ address: '192.0.2.7', account: 'a' });
    relay.check({ account: 'b' }, 1000);
    const viewport = { width: 360, height: 740 };
    const { page, wrong } = await open(url, { viewport });
    const rows = () => page.locator('#rules tbody tr').allInnerTexts();
    const all = [
      expect.stringMatching(/^messages\s+relay \/ address\s+[\d.]+\s+3\s+0$/),
      expect.stringMatching(/^events\s+relay \/ account\s+[\d.]+\s+1\s+0$/),
      expect.stringMatching(/^everybody\s+relay \/ server\s+[\d.]+\s+0\s+5$/),
    ];
    await expect.poll(rows).toEqual(all);
    expect(await page.locator('#limiter option').allTextContents()).toEqual([
      'All limiters',
      'relay (RuleLimiter)',
      'relay / address (RuleScope)',
      'relay / account (RuleScope)',
    ]);
    // A whole is no sum of itself and its scopes.
    await expect.poll(() => text(page, '#tracked')).toBe('3');
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(360);
    await page.selectOption('#limiter', { label: 'relay / account (RuleScope)' });
    expect(await rows()).toEqual([all[1]]);
    expect(await text(page, '#tracked')).toBe('2');
    expect(await page.locator('#violators .key').allTextContents()).toEqual(['b']);
    await page.selectOption('#limiter', { label: 'relay (RuleLimiter)' });
    expect(await rows()).toEqual(all);
    expect(await text(page, '#tracked-note')).toBe('sum of all scopes');
    expect(await page.locator('#bans .key').allTextContents()).toEqual(['192.0.2.7']);
    expect(wrong).toEqual([]);
  });

  test.each([360, 1280])(
    'guards have a table of their own, in a window of %i pixels',
    async (width) => {
      const zero = { ban: 0, rate: 0 };
      const counts = {
        connections: { open: 12_345, paused: 3, accepted: 9, refused: zero, closed: { slow: 1 } },
        messages: { passed: 50, delayed: 4, dropped: { rate: 2 } },
      };
      const relay = { getStats: () => structuredClone(counts) };
      const { url } = await served({ guards: { 'relay <1>': relay }, intervalSeconds: 0.2 });
      const { page, wrong } = await open(url, { viewport: { width, height: 740 } });
      const rows = async () =>
        (await page.locator('#guards tbody tr').allInnerTexts()).map((row) =>
          row.trim().split(/\s+/).join(' '),
        );
      await expect.poll(rows).toEqual(['relay <1> 12.3K 3 0 2 1', 'rate 2', 'slow 1']);
      counts.connections.refused = { ban: 7, rate: 0 };
      await expect.poll(rows).toEqual(['relay <1> 12.3K 3 7 2 1', 'ban 7', 'rate 2', 'slow 1']);
      expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(width);
      expect(wrong).toEqual([]);
    },
  );

  test('a page without guards has no table of them', async () => {
    const { url } = await served();
    const { page } = await open(url);
    await expect.poll(() => text(page, '#status')).toBe('Live');
    expect(await page.isVisible('#guards-card')).toBe(false);
  });

  test('the lift of any ban in a scope can be undone, by the list or by a search, of one for ever too', async () => {
    const relay = ruleLimiter();
    const { url } = await served({ limiters: { relay }, intervalSeconds: 0.2 });
    relay.ban('account', 'mallory', Infinity);
    const { page, wrong } = await open(url);
    // A question would be answered with no.
    page.on('dialog', (dialog) => void dialog.dismiss());
    await page.locator('#bans button').click();
    await expect.poll(() => text(page, '#news')).toContain('Lifted the ban of mallory');
    expect(relay.banSecondsLeft('account', 'mallory')).toBe(0);
    await page.locator('#undo').click();
    await expect
      .poll(() => text(page, '#news'))
      .toBe('Banned mallory in relay / account again forever');
    expect(relay.banSecondsLeft('account', 'mallory')).toBe(Infinity);

    relay.unban('account', 'mallory');
    relay.ban('account', 'mallory', 100);
    // More bans than are listed: of this one only the search knows how long it lasts.
    for (let n = 0; n < 100; n += 1) relay.ban('account', `nick-${n}`, 1000);
    await page.getByLabel('Key').fill('mallory');
    await page.keyboard.press('Enter');
    const found = page.locator('#found tbody tr');
    await expect
      .poll(() => found.allInnerTexts())
      .toEqual([expect.stringMatching(/^relay \/ account\s+0\s+banned, 1 min \d+ s left\s+Lift$/)]);
    await found.getByRole('button', { name: 'Lift' }).click();
    await expect.poll(() => text(page, '#news')).toContain('Lifted the ban of mallory');
    await page.locator('#undo').click();
    await expect.poll(() => relay.banSecondsLeft('account', 'mallory')).toBeGreaterThan(0);
    expect(relay.banSecondsLeft('account', 'mallory')).toBeLessThanOrEqual(100);
    expect(wrong).toEqual([]);
  });

  test('a ban by hand in a scope may be longer than the one that is suggested', async () => {
    const relay = ruleLimiter();
    const { url } = await served({ limiters: { relay }, intervalSeconds: 0.2 });
    const { page, wrong } = await open(url);
    await expect.poll(() => text(page, '#status')).toBe('Live');
    await page.getByLabel('Key').fill('192.0.2.7');
    await page.keyboard.press('Enter');
    await page.locator('#found tr', { hasText: 'address' }).getByRole('button').click();
    const dialog = page.getByRole('dialog');
    expect(await dialog.getByLabel('Seconds').inputValue()).toBe('60');
    await dialog.getByLabel('Seconds').fill('1000000');
    await page.keyboard.press('Enter');
    await expect.poll(() => relay.banSecondsLeft('address', '192.0.2.7')).toBe(1e6);
    expect(wrong).toEqual([]);
  });

  test('a ban that is over cannot be lifted, and it says so', async () => {
    const { url, books } = await served({ intervalSeconds: 3600 });
    ban(books, 'mallory');
    const { page } = await open(url);
    await page.waitForSelector('#bans tbody tr');
    books.removePeer('mallory');
    await page.locator('#bans button').click();
    await expect
      .poll(() => text(page, '#news'))
      .toBe('There is no ban any more of mallory in books');
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

  test.each(['light', 'dark'] as const)(
    'it fits a phone, %s, with whole keys',
    async (colorScheme) => {
      const { url, books } = await served({ intervalSeconds: 0.2 });
      const keys = [
        'a-nick-that-is-longer-than-any-phone-is-wide-'.repeat(4),
        '2001:db8:85a3:8d31::/64',
        '2001:db8:85a3:8d32::/64',
      ];
      for (const key of keys) ban(books, key);
      const viewport = { width: 360, height: 740 };
      const { page, wrong } = await open(url, { viewport, colorScheme });
      await page.waitForSelector('#bans tbody tr:nth-child(3)');
      expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(360);
      const cut = await page.$$eval(
        '.key, .limiter',
        (elements) =>
          elements.filter((element) => element.scrollWidth > element.clientWidth).length,
      );
      expect(cut).toBe(0);
      // A tap shows the whole of a long key.
      await page.locator('#bans summary').click();
      expect(await page.locator('#bans .whole').innerText()).toBe(keys[0]);
      const button = await page.locator('#bans button').first().boundingBox();
      expect((button?.x ?? 360) + (button?.width ?? 0)).toBeLessThanOrEqual(360);
      const light = await page.evaluate(() => {
        const [red = 0] = getComputedStyle(document.body).backgroundColor.match(/\d+/g) ?? [];
        return Number(red) > 128;
      });
      expect(light).toBe(colorScheme === 'light');
      expect(wrong).toEqual([]);
    },
  );

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
