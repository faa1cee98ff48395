// The stream of events over real sockets: its content, the number of streams, and clients that read slowly. Only the
// tests advance the time between two samples.

import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { RateLimiter } from 'relay-limiter';
import { createDashboard } from 'relay-limiter/dashboard';
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { manualClock } from '../support/limiters.js';
import { until } from '../support/sockets.js';
import { ask, ban, events, INTERVAL, limiters, MEMORY, served } from './support.js';

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'performance', 'Date'] });
});

afterEach(() => {
  vi.useRealTimers();
});

/** Advances the time; by default to the next sample. */
const tick = (seconds = INTERVAL) => vi.advanceTimersByTime(seconds * 1000);

describe('the event stream sends', () => {
  test('checks a second by verdict, peers, bans and memory of each limiter', async () => {
    const { url, messages, books } = await served({ title: 'Relay' });
    const stream = await events(url);
    const hello = await stream.next('hello');
    expect(hello).toMatchObject({
      title: 'Relay',
      intervalSeconds: INTERVAL,
      historySeconds: 300 * INTERVAL,
      limiters: [
        { name: 'messages', kind: 'RateLimiter' },
        { name: 'books', kind: 'OrderbookRateLimiter' },
      ],
    });
    for (let n = 0; n < 40; n += 1) messages.check('flooder');
    for (let n = 0; n < 5; n += 1) messages.check(`peer-${n}`);
    ban(books, 'mallory');
    tick();
    // 10 checks of the flooder and 5 others are allowed, 19 are delayed, and the rest are disconnected.
    expect(await stream.next('sample')).toEqual({
      at: Date.now(),
      seconds: INTERVAL,
      loopDelay: expect.any(Number),
      limiters: [
        [15, 19, 11, 6, 0, MEMORY],
        [1, 1, 1, 1, 1, MEMORY],
      ],
    });
    const listing = await stream.next('listing');
    expect(listing.banned).toBe(1);
    expect(listing.bans).toEqual([
      { limiter: 1, key: 'mallory', length: 7, violations: 1, secondsLeft: 600 },
    ]);
    expect(listing.violators[0]).toEqual({ limiter: 0, key: 'flooder', length: 7, violations: 30 });
  });

  test('the last minutes to a late client', async () => {
    const { url } = await served();
    tick(6 * INTERVAL);
    const stream = await events(url);
    const { samples } = await stream.next('hello');
    const times = samples.map(({ at }) => (Date.now() - at) / 1000);
    expect(times).toEqual([5, 4, 3, 2, 1, 0]);
    expect(samples.every(({ seconds }) => seconds === INTERVAL)).toBe(true);
  });

  test('the first hundred bans, longest first, and how many there are', async () => {
    const clock = manualClock();
    const { books } = limiters(clock);
    const { url } = await served({ limiters: { books } });
    for (let n = 0; n < 250; n += 1) {
      clock.now += 1;
      ban(books, `nick-${n}`);
    }
    const stream = await events(url);
    const { listing } = await stream.next('hello');
    expect(listing.banned).toBe(250);
    const latest = Array.from({ length: 100 }, (_, n) => [`nick-${249 - n}`, 600 - n]);
    expect(listing.bans.map(({ key, secondsLeft }) => [key, secondsLeft])).toEqual(latest);
  });

  test('a truncated long key with its length', async () => {
    const { url, books } = await served();
    ban(books, 'k'.repeat(100_000));
    ban(books, `${'k'.repeat(99_999)}l`);
    const stream = await events(url);
    const { listing } = await stream.next('hello');
    const hash = expect.stringMatching(/^[\w-]{16}$/);
    const cut = { key: 'k'.repeat(2048), length: 100_000, hash };
    expect(listing.bans).toMatchObject([cut, cut]);
    expect(listing.bans[0]?.hash).not.toBe(listing.bans[1]?.hash);
  });

  test('an alive event if there are no others', async () => {
    const { url } = await served({ intervalSeconds: 3600 });
    const stream = await events(url);
    const { aliveSeconds } = await stream.next('hello');
    tick(aliveSeconds);
    await stream.next('alive');
  });

  test('null for a limiter with a failing clock', async () => {
    const { messages } = limiters();
    let broken = false;
    const failing = new RateLimiter();
    const getOverview = failing.getOverview.bind(failing);
    failing.getOverview = () => {
      if (broken) throw new Error('no clock');
      return getOverview();
    };
    const { url } = await served({ limiters: { failing, messages } });
    const stream = await events(url);
    await stream.next('hello');
    broken = true;
    tick();
    expect((await stream.next('sample')).limiters).toEqual([null, expect.any(Array)]);
    broken = false;
    tick();
    expect((await stream.next('sample')).limiters[0]).toEqual([0, 0, 0, 0, 0, MEMORY]);
  });

  test('no listing is made without a client', async () => {
    const { books } = limiters();
    ban(books, 'mallory');
    const getBans = books.getBans.bind(books);
    let taken = 0;
    books.getBans = (most) => {
      if (most !== 0) taken += 1;
      return getBans(most);
    };
    const { url } = await served({ limiters: { books } });
    tick(10 * INTERVAL);
    expect(taken).toBe(0);
    const stream = await events(url);
    await stream.next('hello');
    expect(taken).toBe(1);
    tick();
    await stream.next('listing');
    expect(taken).toBe(2);
  });
});

describe('an event stream', () => {
  test('is limited to twenty clients at a time', async () => {
    const { url } = await served();
    const streams = [];
    for (let n = 0; n < 20; n += 1) streams.push(await events(url));
    const refused = await ask(`${url}events`);
    expect(refused).toMatchObject({ status: 503, headers: { 'retry-after': '10' } });
    streams[7]?.stop();
    await expect.poll(async () => (await events(url)).status).toBe(200);
  });

  test('is not opened for a client that has disconnected', async () => {
    // Access is by token, because a disconnected client has no address.
    const token = 'correct-horse.battery';
    const Authorization = `Bearer ${token}`;
    const { dashboard } = await served({ token });
    let late = 0;
    const server = createServer((request, response) => {
      if (request.headers['x-late'] === undefined) dashboard(request, response);
      else {
        response.on('close', () => {
          late += 1;
          setImmediate(() => dashboard(request, response));
        });
      }
    }).listen(0, '127.0.0.1');
    onTestFinished(() => void server.close());
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    for (let n = 0; n < 21; n += 1) {
      const socket = connect(port, '127.0.0.1');
      socket.write(
        `GET /events HTTP/1.1\r\nHost: localhost\r\nX-Late: 1\r\nAuthorization: ${Authorization}\r\n\r\n`,
      );
      await once(server, 'request');
      socket.destroy();
    }
    await expect.poll(() => late).toBe(21);
    await new Promise((resolve) => setImmediate(resolve));
    const url = `http://127.0.0.1:${port}/events`;
    expect((await ask(url, { method: 'HEAD', headers: { Authorization } })).status).toBe(200);
  });

  test('that nobody reads buffers no more than its socket', async () => {
    const { held, socket, port, server } = await unread();
    tick();
    expect(held.writableNeedDrain).toBe(true);
    const waiting = held.writableLength;
    // A hundred keys of 2,000 units, each three bytes long.
    expect(waiting).toBeLessThan(1_000_000);
    const [[, other], stream] = await Promise.all([
      once(server, 'request'),
      events(`http://127.0.0.1:${port}`),
    ]);
    for (let n = 0; n < 20; n += 1) {
      tick();
      await stream.next('listing');
      await until(() => !other.writableNeedDrain);
    }
    expect(held.writableLength).toBe(waiting);
    // When the client reads again, the stream continues with the latest listing.
    let read = 0;
    socket.on('data', (chunk) => {
      read += chunk.length;
    });
    held.socket?.uncork();
    await until(() => read > waiting && !held.writableNeedDrain);
    const before = read;
    tick();
    await until(() => read > before);
  });

  test('is closed after half a minute without a read', async () => {
    const { held } = await unread();
    tick();
    tick(30);
    expect(held.destroyed).toBe(false);
    tick();
    expect(held.destroyed).toBe(true);
  });

  /** A stream that the client does not read. Its keys are so long that a listing exceeds the stream's buffer. */
  async function unread() {
    const { books } = limiters();
    for (let n = 0; n < 100; n += 1) ban(books, `${n}${'\u202e'.repeat(2000)}`);
    const dashboard = createDashboard({ limiters: { books }, intervalSeconds: INTERVAL });
    const server = createServer(dashboard).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const socket = connect(port, '127.0.0.1').resume();
    onTestFinished(() => {
      dashboard.close();
      socket.destroy();
      server.close();
    });
    socket.write('GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n');
    const [, held] = (await once(server, 'request')) as [unknown, ServerResponse];
    await until(() => held.writableLength === 0 && !held.writableNeedDrain);
    held.socket?.cork();
    return { held, socket, server, port };
  }

  test('ends when its server closes', async () => {
    const dashboard = createDashboard({ limiters: limiters(), intervalSeconds: INTERVAL });
    onTestFinished(() => dashboard.close());
    const server = createServer(dashboard).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const stream = await events(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
    await stream.next('hello');
    server.close();
    tick();
    await Promise.all([once(server, 'close'), stream.ended]);
  });

  test('ends on close, with the server', async () => {
    const { url, dashboard } = await served();
    const stream = await events(url);
    await stream.next('hello');
    dashboard.close();
    await stream.ended;
    await expect
      .poll(() =>
        ask(url).then(
          () => 'there',
          (error) => error.code,
        ),
      )
      .toBe('ECONNREFUSED');
    dashboard.close();
  });

  test('is refused after close, and a pending listen rejects', async () => {
    const dashboard = createDashboard({ limiters: limiters(), intervalSeconds: INTERVAL });
    const server = createServer(dashboard).listen(0, '127.0.0.1');
    onTestFinished(() => void server.close());
    await once(server, 'listening');
    const underway = dashboard.listen();
    dashboard.close();
    await expect(underway).rejects.toThrow('the dashboard is closed');
    await expect(dashboard.listen()).rejects.toMatchObject({ code: 'ERR_LIMITER_OPTION' });
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
    for (const name of ['', 'events', 'lift']) {
      expect((await ask(url + name)).status).toBe(503);
    }
  });
});
