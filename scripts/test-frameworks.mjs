// Tests the recipes of examples/recipes for other servers and frameworks on the real thing: each serves on its runtime,
// and real clients send requests and messages. The versions are the newest of each major.
//
//   npm run test:frameworks

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { connect as connectTcp } from 'node:net';
import { join } from 'node:path';
import { WebSocket } from 'ws';
import { fetchPackages } from './fetch.mjs';
import { fetchRuntime, RUNTIMES } from './runtimes.mjs';
import { fail, require, root } from './tools.mjs';

const { dependencies } = require('../package.json');
const FRAMEWORKS = [
  '@hono/node-server@2',
  'elysia@1',
  'h3@2',
  'hono@4',
  'koa@3',
  ...['common', 'core', 'platform-express', 'platform-ws', 'websockets'].map(
    (name) => `@nestjs/${name}@12`,
  ),
  'reflect-metadata@0.2',
  'rxjs@7',
  'ws@8',
];
const DEADLINE_MS = 60_000;

const specs = Object.entries(dependencies).map(([name, range]) => `${name}@${range}`);
const { folder, missing } = fetchPackages('frameworks', [...FRAMEWORKS, ...specs]);
if (missing !== undefined) fail(`frameworks: ${missing}`);
install();

const node = { command: process.execPath, args: [] };
const bun = runtime('Bun');
const deno = runtime('Deno');
const own = { limited: isLimited, redirects: true, throws: true };
await test('Hono on Node', node, 'hono', own);
await test('Hono on Bun', bun, 'hono', own);
await test('h3 on Node', node, 'h3', own);
await test('Koa on Node', node, 'koa', own);
await test('Elysia on Bun', bun, 'elysia', own);
await test('NestJS on Node', node, 'nest', { limited: isLimited, throws: true, gateway: true });
await test('a route handler of Next', node, 'next', { limited: isLimitedByProxy });
await test('Bun.serve', bun, 'bun', { limited: isLimited, sockets: true });
await test('Deno.serve', deno, 'deno', { limited: isLimited, sockets: true });
const withLateLimiter = (how) => ({ ...how, env: { ...how.env, LATE_LIMITER: '1' } });
for (const [name, how] of Object.entries({ bun, deno })) {
  const sockets = { limited: isLimited, sockets: true };
  await test(`${name} with an asynchronous limiter`, withLateLimiter(how), name, sockets);
}

/** Installs the package without its binaries, the servers of the test, and the recipes as `<name>-recipe.mjs`. */
function install() {
  const installed = join(folder, 'node_modules/relay-limiter');
  rmSync(installed, { recursive: true, force: true });
  mkdirSync(installed);
  cpSync(join(root, 'package.json'), join(installed, 'package.json'));
  cpSync(join(root, 'dist'), join(installed, 'dist'), { recursive: true });
  cpSync(join(root, 'test/fetch/servers'), folder, { recursive: true });
  const recipes = join(root, 'examples/recipes');
  for (const file of readdirSync(recipes).filter((name) => name.endsWith('.mjs'))) {
    cpSync(join(recipes, file), join(folder, file.replace('.mjs', '-recipe.mjs')));
  }
}

function runtime(wanted) {
  const how = fetchRuntime(RUNTIMES.find(({ name }) => name === wanted));
  if (how.missing !== undefined) fail(`frameworks: ${wanted}: ${how.missing}`);
  return how;
}

/** Starts a server and checks what it does. `expected`: the checks, in their order. */
async function test(title, { command, args, env }, name, expected) {
  process.stdout.write(`frameworks: ${title} ... `);
  const server = spawn(command, [...args, `${name}.mjs`], {
    cwd: folder,
    env: { ...process.env, NODE_OPTIONS: '', RELAY_LIMITER_ENGINE: '', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  server.stderr.on('data', (text) => {
    output += text;
  });
  try {
    const port = await portOf(server);
    await expected.limited(`http://127.0.0.1:${port}`, expected);
    if (expected.sockets) await limitsSockets(port);
    if (expected.gateway) await limitsGateway(port);
    console.log('passed');
  } catch (error) {
    console.log(`FAILED\n${error.stack}\n${output}`);
    process.exitCode = 1;
  } finally {
    server.kill();
  }
}

async function portOf(server) {
  server.stdout.setEncoding('utf8');
  let text = '';
  server.stdout.on('data', (more) => {
    text += more;
  });
  await until(() => /^\d+\n/.test(text) || server.exitCode !== null);
  assert.match(text, /^\d+\n/, 'the server must print its port');
  return Number.parseInt(text, 10);
}

/** Five requests pass, of whatever outcome, and the next ones are refused with the time to wait. */
async function isLimited(origin, { redirects = false, throws = false }) {
  await passes(origin, '/', 200, 4);
  if (redirects) await passes(origin, '/redirect', 302, 3);
  else await passes(origin, '/', 200, 3);
  if (throws) assert.equal((await get(origin, '/throws')).status, 500);
  else await passes(origin, '/', 200, 2);
  await passes(origin, '/', 200, 1);
  await passes(origin, '/', 200, 0);
  for (let n = 0; n < 2; n += 1) await isRefused(origin);
}

/** The window of this recipe is shorter, and its clients are those that the proxy names. */
async function isLimitedByProxy(origin) {
  const from = (address) => ({ 'x-forwarded-for': `203.0.113.${Math.random()}, ${address}` });
  for (let n = 0; n < 10; n += 1) {
    assert.equal((await get(origin, '/', from('192.0.2.1'))).status, 200);
  }
  assert.equal((await get(origin, '/', from('192.0.2.1'))).status, 429);
  assert.equal((await get(origin, '/', from('192.0.2.2'))).status, 200);
  assert.equal((await get(origin, '/')).status, 500);
}

function get(origin, path, headers = {}) {
  return fetch(`${origin}${path}`, { redirect: 'manual', headers });
}

async function passes(origin, path, status, remaining) {
  const response = await get(origin, path);
  assert.equal(response.status, status);
  assert.match(response.headers.get('ratelimit') ?? '', new RegExp(`;r=${remaining};`));
  if (status === 200) assert.equal(await response.text(), 'Hello');
  else assert.equal(response.headers.get('location'), 'http://localhost/there');
}

async function isRefused(origin) {
  const response = await get(origin, '/');
  assert.equal(response.status, 429);
  assert.match(response.headers.get('ratelimit') ?? '', /;r=0;/);
  const seconds = Number(response.headers.get('retry-after'));
  assert.ok(seconds > 0 && seconds <= 3600, `${seconds}`);
  assert.match(await response.text(), /Too many requests\. Try again in \d+ seconds\./);
}

/** The sockets of Bun and Deno: four messages pass, the fifth is a ban, and an address has two connections. */
async function limitsSockets(port) {
  const few = await opened(port);
  const echoes = received(few);
  for (let n = 0; n < 4; n += 1) few.send(`message ${n}`);
  await until(() => echoes.length === 4);
  few.send('message 4');
  const [code, reason] = await once(few, 'close');
  assert.deepEqual([code, String(reason)], [1008, 'rate limit exceeded']);
  assert.deepEqual(echoes, ['message 0', 'message 1', 'message 2', 'message 3']);

  // Deno ends the connection of a client that does not stop sending, before the close frame is read.
  const flood = await opened(port);
  flood.on('error', () => {});
  const passed = received(flood);
  for (let n = 0; n < 200; n += 1) flood.send(`message ${n}`);
  await once(flood, 'close');
  assert.ok(passed.length <= 4, `${passed}`);

  const binary = await opened(port);
  binary.send(Buffer.from('binary'));
  const [data] = await once(binary, 'message');
  assert.equal(String(data), 'binary');
  const second = await opened(port);
  const refusal = await handshake(port);
  assert.deepEqual([refusal.status, refusal.retryAfter], [429, '10']);
  second.terminate();
  const third = await openedInTheEnd(port);
  // Clients that leave in the middle of the handshake take no place.
  third.close();
  for (let n = 0; n < 5; n += 1) await leaveEarly(port);
  await openedInTheEnd(port);
  assert.equal((await handshake(port)).status, 429);
}

/** The guard of NestJS on a gateway: two events pass, the third is a ban. */
async function limitsGateway(port) {
  const socket = await opened(port);
  const answers = received(socket);
  const send = (n) => socket.send(JSON.stringify({ event: 'chat', data: `${n}` }));
  for (let n = 0; n < 2; n += 1) send(n);
  await until(() => answers.length === 2);
  send(2);
  const [code] = await once(socket, 'close');
  assert.equal(code, 1008);
  const events = answers.map((text) => JSON.parse(text)).filter(({ event }) => event === 'chat');
  assert.deepEqual(
    events.map(({ data }) => data),
    ['0', '1'],
  );
}

function received(socket) {
  const texts = [];
  socket.on('message', (data) => texts.push(String(data)));
  return texts;
}

/** Connects: the socket, or the status and Retry-After of a refusal. */
async function handshake(port) {
  const socket = new WebSocket(`ws://127.0.0.1:${port}`);
  return new Promise((resolve, reject) => {
    socket.once('open', () => resolve({ socket, status: 101 }));
    socket.once('unexpected-response', (_, { statusCode, headers }) => {
      resolve({ status: statusCode, retryAfter: headers['retry-after'] });
      socket.on('error', () => {});
      socket.terminate();
    });
    socket.once('error', reject);
  });
}

async function opened(port) {
  const { socket, status } = await handshake(port);
  assert.equal(status, 101);
  return socket;
}

/** The server learns of the end of another connection some time later. */
async function openedInTheEnd(port) {
  let found;
  await until(async () => {
    found = await handshake(port);
    return found.status === 101;
  });
  return found.socket;
}

async function leaveEarly(port) {
  const socket = connectTcp(port, '127.0.0.1');
  await once(socket, 'connect');
  const fields = [
    'Host: localhost',
    'Connection: Upgrade',
    'Upgrade: websocket',
    'Sec-WebSocket-Version: 13',
    'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==',
  ];
  socket.write(`GET / HTTP/1.1\r\n${fields.join('\r\n')}\r\n\r\n`);
  socket.resetAndDestroy();
}

async function until(holds) {
  const end = Date.now() + DEADLINE_MS;
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`not within ${DEADLINE_MS} ms: ${holds}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
