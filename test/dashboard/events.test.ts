// The stream of events: what it tells, and to how many, however slowly they read.

import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { RateLimiter } from 'relay-limiter';
import { createDashboard } from 'relay-limiter/dashboard';
import { describe, expect, onTestFinished, test } from 'vitest';
import { REAL_TIME } from '../support/real-time.js';
import { ask, ban, events, INTERVAL, limiters, served } from './support.js';

describe('what it tells', REAL_TIME, () => {
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
    let latest = await stream.next('sample');
    while ((latest.limiters[1]?.[4] ?? 0) < 1) latest = await stream.next('sample');
    const [allowed = 0, delayed = 0, disconnected = 0, tracked, banned, bytes] =
      latest.limiters[0] ?? [];
    // 10 of the flooder's and 5 others are allowed, 19 delayed, and the rest disconnected.
    expect(Math.min(allowed, delayed, disconnected)).toBeGreaterThan(0);
    expect((delayed + disconnected) / allowed).toBeCloseTo(30 / 15, 1);
    expect(delayed / disconnected).toBeCloseTo(19 / 11, 1);
    expect([tracked, banned, typeof bytes]).toEqual([6, 0, 'number']);
    expect(latest.limiters[1]?.slice(3, 5)).toEqual([1, 1]);
    expect(latest.loopDelay).toBeGreaterThanOrEqual(0);
    expect(latest.seconds).toBeGreaterThan(INTERVAL / 2);

    const listing = await stream.next('listing');
    expect(listing.banned).toBe(1);
    expect(listing.bans).toMatchObject([{ limiter: 1, key: 'mallory', length: 7 }]);
    expect(listing.bans[0]?.secondsLeft).toBeGreaterThan(590);
    expect(listing.bans[0]?.secondsLeft).toBeLessThanOrEqual(600);
    expect(listing.violators[0]).toEqual({ limiter: 0, key: 'flooder', length: 7, violations: 30 });
  });

  test('the last minutes, to who comes later', async () => {
    const { url } = await served();
    await new Promise((resolve) => setTimeout(resolve, 6 * INTERVAL * 1000));
    const stream = await events(url);
    const { samples } = await stream.next('hello');
    expect(samples.length).toBeGreaterThanOrEqual(3);
    const times = samples.map(({ at }) => at);
    expect(times).toEqual([...times].sort((a, b) => a - b));
  });

  test('the first hundred bans, longest first, and how many there are', async () => {
    const { url, books } = await served({ intervalSeconds: 3600 });
    for (let n = 0; n < 250; n += 1) ban(books, `nick-${n}`);
    const stream = await events(url);
    const { listing } = await stream.next('hello');
    expect([listing.banned, listing.bans.length]).toEqual([250, 100]);
    const left = listing.bans.map(({ secondsLeft }) => secondsLeft);
    expect(left).toEqual([...left].sort((a, b) => b - a));
  });

  test('a long key is cut, and its length told', async () => {
    const { url, books } = await served({ intervalSeconds: 3600 });
    ban(books, 'k'.repeat(100_000));
    ban(books, `${'k'.repeat(99_999)}l`);
    const stream = await events(url);
    const { listing } = await stream.next('hello');
    const hash = expect.stringMatching(/^[\w-]{16}$/);
    const cut = { key: 'k'.repeat(2048), length: 100_000, hash };
    expect(listing.bans).toMatchObject([cut, cut]);
    expect(listing.bans[0]?.hash).not.toBe(listing.bans[1]?.hash);
  });

  test('every sample says how long it is of', async () => {
    const { url } = await served();
    const stream = await events(url);
    let before = await stream.next('sample');
    const apart = [];
    for (let n = 0; n < 5; n += 1) {
      const sample = await stream.next('sample');
      apart.push(Math.abs((sample.at - before.at) / 1000 - sample.seconds));
      before = sample;
    }
    expect(Math.max(...apart)).toBeLessThan(0.2);
  });

  test('that it is alive, however seldom there is anything else to say', {
    timeout: 9000,
  }, async () => {
    const { url } = await served({ intervalSeconds: 3600 });
    const stream = await events(url);
    const { aliveSeconds } = await stream.next('hello');
    const started = performance.now();
    await stream.next('alive');
    expect((performance.now() - started) / 1000).toBeLessThan(aliveSeconds + 3);
  });

  test('a limiter whose clock fails is a gap, and the others go on', async () => {
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
    await stream.next('sample');
    const sample = await stream.next('sample');
    expect(sample.limiters).toEqual([null, expect.any(Array)]);
    broken = false;
    await stream.next('sample');
    expect((await stream.next('sample')).limiters[0]).toEqual([0, 0, 0, 0, 0, expect.any(Number)]);
  });
});

describe('what is dear', REAL_TIME, () => {
  test('is done less often: a fiftieth of the time at the most', async () => {
    const { messages } = limiters();
    const getOverview = messages.getOverview.bind(messages);
    let reads = 0;
    messages.getOverview = () => {
      reads += 1;
      const until = performance.now() + 20;
      while (performance.now() < until);
      return getOverview();
    };
    const { url } = await served({ limiters: { messages }, intervalSeconds: 0.01 });
    const stream = await events(url);
    reads = 0;
    await stream.next('hello');
    await new Promise((resolve) => setTimeout(resolve, 700));
    // One for a sample, and one for a list: 20 ms need a second.
    expect(reads).toBeLessThanOrEqual(2);
  });

  test('nobody is listed while nobody watches', async () => {
    const { books } = limiters();
    ban(books, 'mallory');
    const getBans = books.getBans.bind(books);
    let taken = 0;
    books.getBans = (most) => {
      if (most !== 0) taken += 1;
      return getBans(most);
    };
    const { url } = await served({ limiters: { books }, intervalSeconds: 0.01 });
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(taken).toBe(0);
    const stream = await events(url);
    await stream.next('listing');
    expect(taken).toBeGreaterThan(0);
  });
});

describe('to whom', REAL_TIME, () => {
  test('twenty at the most; a place that is left is free again', async () => {
    const { url } = await served();
    const streams = [];
    for (let n = 0; n < 20; n += 1) streams.push(await events(url));
    const refused = await ask(`${url}events`);
    expect(refused).toMatchObject({ status: 503, headers: { 'retry-after': '10' } });
    streams[7]?.stop();
    await expect.poll(async () => (await events(url)).status, { timeout: 3000 }).toBe(200);
  });

  test('who has gone before the handler runs takes no place', async () => {
    // With a token: of who has gone not even the address is known.
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

  test('one that reads nothing holds no more than its socket, and nobody up', async () => {
    // Keys so long that a listing fills any socket soon.
    const { url, books, dashboard } = await served();
    for (let n = 0; n < 100; n += 1) ban(books, `${n}${'\u202e'.repeat(2000)}`);
    const held: ServerResponse[] = [];
    const server = createServer((request, response) => {
      held.push(response);
      dashboard(request, response);
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const socket = connect(port, '127.0.0.1').pause();
    onTestFinished(() => {
      socket.destroy();
      server.close();
    });
    socket.write('GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n');
    const stream = await events(url);
    await expect
      .poll(() => held[0]?.writableNeedDrain ?? false, { timeout: 8000, interval: 20 })
      .toBe(true);
    const waiting = held[0]?.writableLength ?? 0;
    for (let n = 0; n < 20; n += 1) await stream.next('listing');
    expect(held[0]?.writableLength).toBe(waiting);
    expect(waiting).toBeLessThan(3_000_000);
    // Read at last, it goes on with what is new.
    let read = 0;
    socket.on('data', (chunk) => {
      read += chunk.length;
    });
    socket.resume();
    await expect.poll(() => read, { timeout: 5000 }).toBeGreaterThan(waiting);
    await expect.poll(() => held[0]?.writableNeedDrain, { timeout: 5000 }).toBe(false);
  });

  test('a server that closes takes its streams along', async () => {
    const dashboard = createDashboard({ limiters: limiters(), intervalSeconds: INTERVAL });
    onTestFinished(() => dashboard.close());
    const server = createServer(dashboard).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const stream = await events(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
    await stream.next('hello');
    server.close();
    await Promise.all([once(server, 'close'), stream.ended]);
  });

  test('close ends streams and server', async () => {
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

  test('closed, it answers nothing more, and a listen that is underway does not come about', async () => {
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
