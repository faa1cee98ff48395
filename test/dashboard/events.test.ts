// The stream of events: what it tells, and to how many, however slowly they read.

import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { RateLimiter } from 'relay-limiter';
import { createDashboard } from 'relay-limiter/dashboard';
import { describe, expect, onTestFinished, test } from 'vitest';
import { ask, ban, events, INTERVAL, limiters, served } from './support.js';

describe('what it tells', () => {
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
    const stream = await events(url);
    const { listing } = await stream.next('hello');
    expect(listing.bans).toMatchObject([{ key: 'k'.repeat(2048), length: 100_000 }]);
  });

  test('a limiter whose clock fails is a gap, and the others go on', async () => {
    const { messages } = limiters();
    let broken = false;
    const failing = new RateLimiter();
    const getStats = failing.getStats.bind(failing);
    failing.getStats = () => {
      if (broken) throw new Error('no clock');
      return getStats();
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

describe('what is dear', () => {
  test('is done less often: a fiftieth of the time at the most', async () => {
    const { messages } = limiters();
    const getStats = messages.getStats.bind(messages);
    let reads = 0;
    messages.getStats = () => {
      reads += 1;
      const until = performance.now() + 20;
      while (performance.now() < until);
      return getStats();
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
    const snapshot = books.snapshot.bind(books);
    let taken = 0;
    books.snapshot = () => {
      taken += 1;
      return snapshot();
    };
    const { url } = await served({ limiters: { books }, intervalSeconds: 0.01 });
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(taken).toBe(0);
    const stream = await events(url);
    await stream.next('listing');
    expect(taken).toBeGreaterThan(0);
  });
});

describe('to whom', () => {
  test('twenty at the most; a place that is left is free again', async () => {
    const { url } = await served();
    const streams = [];
    for (let n = 0; n < 20; n += 1) streams.push(await events(url));
    const refused = await ask(`${url}events`);
    expect(refused).toMatchObject({ status: 503, headers: { 'retry-after': '10' } });
    streams[7]?.stop();
    await expect.poll(async () => (await events(url)).status, { timeout: 3000 }).toBe(200);
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
});
