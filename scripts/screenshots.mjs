// Takes the screenshots of the dashboard in docs/images with a real browser: real limiters under simulated traffic and a
// growing flood, and real guards with clients of the loopback interface. Takes a minute.
//
//   npm run screenshots

import { once } from 'node:events';
import { existsSync, mkdirSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { chromium } from 'playwright-core';
import { DirectConnectionRateLimiter, OrderbookRateLimiter, RateLimiter } from 'relay-limiter';
import { createDashboard } from 'relay-limiter/dashboard';
import { guardConnections, guardLineServer } from 'relay-limiter/net';
import { fail, root } from './tools.mjs';

const CHROMIUM = '/usr/bin/chromium';
const SECONDS = 44;
const STEPS_PER_SECOND = 20;
const PICTURES = [
  { name: 'dashboard-light', colorScheme: 'light', viewport: { width: 1280, height: 900 } },
  { name: 'dashboard-dark', colorScheme: 'dark', viewport: { width: 1280, height: 900 } },
  { name: 'dashboard-phone', colorScheme: 'dark', viewport: { width: 360, height: 740 } },
];

if (!existsSync(CHROMIUM)) fail(`screenshots: needs chromium: ${CHROMIUM} does not exist`);
const folder = join(root, 'docs/images');
mkdirSync(folder, { recursive: true });

const messages = new RateLimiter({ rateLimit: 20, burstLimit: 60, disconnectThreshold: 400 });
const direct = new DirectConnectionRateLimiter({ messageRatePerSec: 8, orderbookInterval: 2 });
const nicks = new OrderbookRateLimiter({ interval: 1, violationBanThreshold: 60 });
const server = createServer((socket) => {
  socket.on('line', (line) => socket.write(`${line}\n`));
  socket.resume();
});
const connections = guardConnections(server, {
  connections: { limiter: new RateLimiter({ rateLimit: 2, burstLimit: 12 }), maxPerAddress: 8 },
  firstByteSeconds: 5,
});
const lines = guardLineServer(server, {
  messages: { limiter: new RateLimiter({ rateLimit: 4, burstLimit: 10, disconnectThreshold: 60 }) },
  expulsions: new OrderbookRateLimiter({ interval: 1, violationBanThreshold: 3 }),
});
await once(server.listen(0, '127.0.0.1'), 'listening');
const clients = new Set();
// The browser starts before the dashboard: its start delays the event loop, and the pictures would show that delay.
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
  guards: { connections, 'line protocol': lines },
  title: 'JoinMarket directory',
  intervalSeconds: 0.25,
});
const url = await dashboard.listen();
for (const { page } of pages) await page.goto(url);

const started = performance.now();
let done = 0;
const timer = setInterval(() => {
  // A late timer catches up.
  const due = ((performance.now() - started) * STEPS_PER_SECOND) / 1000;
  for (; done < due; done += 1) {
    sendTraffic(done / STEPS_PER_SECOND);
    sendToGuards(done);
  }
}, 1000 / STEPS_PER_SECOND);
await delay(SECONDS * 1000);
for (const { name, page } of pages) {
  await page.waitForSelector('#bans tbody tr');
  await page.screenshot({ path: join(folder, `${name}.png`) });
  console.log(`docs/images/${name}.png`);
}
const [{ page }] = pages;
await page.locator('#guards-card').screenshot({ path: join(folder, 'dashboard-guards.png') });
console.log('docs/images/dashboard-guards.png');
await browser.close();
clearInterval(timer);
dashboard.close();
for (const client of clients) client.destroy();
server.close();

/** Sends the messages of one step, `seconds` after the first step. */
function sendTraffic(seconds) {
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

/** Sends lines to the guarded server, and connects to it, as clients of a few addresses do. */
function sendToGuards(step) {
  for (const client of clients) if (Math.random() < client.chance) client.write('a line\n');
  if (step % 8 === 0 && clients.size < 40) connectFrom(`127.0.0.${10 + (step % 30)}`, 0.1);
  if (step > 18 * STEPS_PER_SECOND && step % 2 === 0)
    connectFrom(`127.0.0.${70 + (step % 4)}`, 0.9);
}

/** `chance`: how likely the client sends a line in a step. */
function connectFrom(localAddress, chance) {
  const client = connect({ port: server.address().port, host: '127.0.0.1', localAddress });
  clients.add(Object.assign(client, { chance }));
  client.on('error', () => {}).on('close', () => clients.delete(client));
  client.resume();
}
