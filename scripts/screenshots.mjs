// Makes the pictures of the dashboard in docs/images: real limiters under made-up traffic, a flood that
// swells, seen by a real browser. Takes a minute.
//
//   npm run screenshots

import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { chromium } from 'playwright-core';
import { DirectConnectionRateLimiter, OrderbookRateLimiter, RateLimiter } from 'relay-limiter';
import { createDashboard } from 'relay-limiter/dashboard';
import { fail, root } from './tools.mjs';

const CHROMIUM = '/usr/bin/chromium';
const SECONDS = 44;
/** Times a second. */
const STEPS = 20;
const PICTURES = [
  { name: 'dashboard-light', colorScheme: 'light', viewport: { width: 1280, height: 900 } },
  { name: 'dashboard-dark', colorScheme: 'dark', viewport: { width: 1280, height: 900 } },
  { name: 'dashboard-phone', colorScheme: 'dark', viewport: { width: 360, height: 740 } },
];

if (!existsSync(CHROMIUM)) fail(`screenshots: there is no ${CHROMIUM}`);
const folder = join(root, 'docs/images');
mkdirSync(folder, { recursive: true });

const messages = new RateLimiter({ rateLimit: 20, burstLimit: 60, disconnectThreshold: 400 });
const direct = new DirectConnectionRateLimiter({ messageRatePerSec: 8, orderbookInterval: 2 });
const nicks = new OrderbookRateLimiter({ interval: 1, violationBanThreshold: 60 });
// First of all: a browser that starts holds the event loop up, which the pictures would show.
const browser = await chromium.launch({
  executablePath: CHROMIUM,
  args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-background-networking'],
});
const pages = [];
for (const { name, ...options } of PICTURES) {
  pages.push({ name, page: await browser.newPage(options) });
}
await delay(1000);

const dashboard = createDashboard({
  limiters: { messages, 'private messages': direct, 'order books': nicks },
  title: 'JoinMarket directory',
  intervalSeconds: 0.25,
});
const url = await dashboard.listen();
for (const { page } of pages) await page.goto(url);

const started = performance.now();
let done = 0;
const timer = setInterval(() => {
  // A timer that is late makes up for it.
  for (; done < ((performance.now() - started) * STEPS) / 1000; done += 1) traffic(done / STEPS);
}, 1000 / STEPS);
await delay(SECONDS * 1000);
for (const { name, page } of pages) {
  await page.waitForSelector('#bans tbody tr');
  await page.screenshot({ path: join(folder, `${name}.png`) });
  console.log(`docs/images/${name}.png`);
}
await browser.close();
clearInterval(timer);
dashboard.close();

/** What comes in at one step, `seconds` after the first. */
function traffic(seconds) {
  const wave = 1 + 0.3 * Math.sin(seconds);
  for (let n = 0; n < 30 * wave; n += 1) messages.check(`connection-${n}`, 0.6);
  for (let n = 0; n < 8; n += 1)
    direct.checkMessage(`connection-${Math.floor(Math.random() * 90)}`);
  for (let n = 0; n < 2; n += 1) nicks.check(`J5maker${Math.floor(Math.random() * 200)}`);
  if (seconds < 18) return;
  const strength = Math.min(1, (seconds - 18) / 12);
  for (let n = 0; n < 90 * strength; n += 1) messages.check(`connection-${900 + (n % 6)}`);
  for (let n = 0; n < 30 * strength; n += 1) direct.checkMessage(`connection-${910 + (n % 3)}`);
  for (let n = 0; n < 12; n += 1) nicks.check(`J5flood${n % 4}`);
  for (let n = 0; n < 3; n += 1) direct.checkOrderbook(`connection-${900 + n}`);
}
