// Access to the dashboard: which requests may read it, and which may lift bans.

import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { OrderbookRateLimiter } from 'relay-limiter';
import { describe, expect, onTestFinished, test } from 'vitest';
import { ask, ban, events, lift, post, served } from './support.js';

const TOKEN = 'correct-horse.battery~staple';

describe('a dashboard without a token', () => {
  test.each(['localhost', 'LOCALHOST:80', '127.0.0.1', '127.8.9.10:3000', '[::1]:80'])(
    'as %s',
    async (host) => {
      const { url } = await served();
      expect((await ask(url, { headers: { Host: host } })).status).toBe(200);
    },
  );

  test.each([
    ['a name that someone else points here', { Host: 'rebound.example' }],
    ['a name that begins like ours', { Host: '127.0.0.1.rebound.example' }],
    ['a name that ends like ours', { Host: 'evil-localhost' }],
    ['a proxy', { 'X-Forwarded-For': '203.0.113.7' }],
    ['a proxy that follows the standard', { Forwarded: 'for=203.0.113.7' }],
    ['a proxy that tells the name it was asked by', { 'X-Forwarded-Host': 'limits.example' }],
    ['a proxy that tells the protocol', { 'X-Forwarded-Proto': 'https' }],
    ['a proxy that tells the port', { 'X-Forwarded-Port': '443' }],
    ['a proxy that tells its own name', { Via: '1.1 proxy.example' }],
    ['nginx', { 'X-Real-IP': '203.0.113.7' }],
    ['a load balancer', { 'X-Client-IP': '203.0.113.7' }],
    ['a content network', { 'CF-Connecting-IP': '203.0.113.7' }],
    ['another content network', { 'True-Client-IP': '203.0.113.7' }],
  ])('not by %s', async (_, headers) => {
    const { url, books } = await served();
    for (const name of ['', 'events']) {
      const answer = await ask(url + name, { headers });
      expect(answer.status).toBe(403);
      expect(answer.body).toContain('no token');
    }
    ban(books, 'mallory');
    for (const name of ['lift', 'ban', 'find']) {
      const answer = await post(url, name, { limiter: 'books', key: 'mallory' }, headers);
      expect(answer.status).toBe(403);
    }
    expect(books.isBanned('mallory')).toBe(true);
  });

  test.each(['0.0.0.0', '::', '192.0.2.1', 'example.org', '127.0.0.1.example.org'])(
    'it does not listen on %s',
    async (host) => {
      const { dashboard } = await served();
      await expect(dashboard.listen(0, host)).rejects.toMatchObject({ code: 'ERR_LIMITER_OPTION' });
    },
  );

  test('does not answer requests from other addresses as a handler', async () => {
    const { dashboard } = await served();
    const folder = mkdtempSync(join(tmpdir(), 'relay-limiter-'));
    const socketPath = join(folder, 'socket');
    const server = createServer(dashboard).listen(socketPath);
    await once(server, 'listening');
    const asking = request({ socketPath, headers: { Host: 'localhost' } }).end();
    const [{ statusCode }] = await once(asking, 'response');
    expect(statusCode).toBe(403);
    server.closeAllConnections();
    server.close();
    rmSync(folder, { recursive: true });
  });
});

describe('a dashboard with a token', () => {
  const bearer = { Authorization: `Bearer ${TOKEN}` };

  test('requires the token from every client, even on this machine', async () => {
    const { url, books } = await served({ token: TOKEN });
    ban(books, 'mallory');
    const page = await ask(url);
    expect(page).toMatchObject({ status: 401, headers: { 'www-authenticate': 'Bearer' } });
    expect(page.body).toContain('<form');
    expect((await ask(`${url}events`)).status).toBe(401);
    expect((await ask(`${url}events?token=${TOKEN}`)).status).toBe(401);
    for (const name of ['lift', 'ban', 'find']) {
      const answer = await post(url, name, { limiter: 'books', key: 'mallory' });
      expect(answer.status).toBe(401);
    }
    expect(books.isBanned('mallory')).toBe(true);
  });

  test('accepts the token in a header, by any host name and through proxies', async () => {
    const { url, books } = await served({ token: TOKEN });
    ban(books, 'mallory');
    const headers = { ...bearer, Host: 'limits.example', 'X-Forwarded-For': '203.0.113.7' };
    expect((await ask(url, { headers })).status).toBe(200);
    const stream = await events(url, headers);
    await stream.next('hello');
    expect((await lift(url, { limiter: 'books', key: 'mallory' }, headers)).status).toBe(204);
  });

  test.each([
    '',
    'Bearer',
    'Bearer ',
    `Bearer ${TOKEN}x`,
    `Bearer ${TOKEN.slice(1)}`,
    `Basic ${TOKEN}`,
    TOKEN,
  ])('rejects the header %j', async (Authorization) => {
    const { url } = await served({ token: TOKEN });
    expect((await ask(url, { headers: { Authorization } })).status).toBe(401);
  });

  test('accepts the token in the URL, then a cookie that does not reveal it', async () => {
    const { url } = await served({ token: TOKEN, path: '/limits' });
    const first = await ask(`${url}?token=${TOKEN}`);
    expect(first).toMatchObject({ status: 303, headers: { location: './' } });
    const [cookie = '', ...attributes] = String(first.headers['set-cookie']).split('; ');
    expect(attributes).toEqual(['Path=/limits/', 'HttpOnly', 'SameSite=Lax']);
    expect(cookie).not.toContain(TOKEN);
    const headers = { Cookie: `theme=dark; ${cookie}` };
    expect((await ask(url, { headers })).status).toBe(200);
    const stream = await events(url, headers);
    expect(stream.status).toBe(200);
    const wrong = { Cookie: `${cookie.slice(0, -1)}x` };
    expect((await ask(url, { headers: wrong })).status).toBe(401);
    expect((await ask(`${url}?token=wrong`)).status).toBe(401);
  });

  test('in the address of the folder without its slash: the cookie is of the folder', async () => {
    const { url } = await served({ token: TOKEN, path: '/admin/limits' });
    const first = await ask(`${url.slice(0, -1)}?token=${TOKEN}`);
    expect(first).toMatchObject({ status: 303, headers: { location: './limits/' } });
    const [cookie, path] = String(first.headers['set-cookie']).split('; ');
    expect(path).toBe('Path=/admin/limits/');
    expect((await ask(url, { headers: { Cookie: cookie } })).status).toBe(200);
  });

  test('with a plus in it, written as it is or encoded', async () => {
    const token = 'abcd+efgh/ijkl+mnop=';
    const { url } = await served({ token });
    for (const written of [token, encodeURIComponent(token)]) {
      expect((await ask(`${url}?token=${written}`)).status).toBe(303);
    }
    expect((await ask(`${url}?token=${token.replaceAll('+', '%20')}`)).status).toBe(401);
  });

  test('rejects the cookie of another token', async () => {
    const one = await served({ token: TOKEN });
    const other = await served({ token: `${TOKEN}2` });
    const { headers } = await ask(`${one.url}?token=${TOKEN}`);
    const Cookie = String(headers['set-cookie']).split(';')[0];
    expect((await ask(one.url, { headers: { Cookie } })).status).toBe(200);
    expect((await ask(other.url, { headers: { Cookie } })).status).toBe(401);
  });

  test('it listens elsewhere, where the machine can', async () => {
    const { dashboard } = await served({ token: TOKEN });
    // An address reserved for documentation: no machine has it.
    await expect(dashboard.listen(0, '192.0.2.1')).rejects.toThrow('EADDRNOTAVAIL');
  });
});

describe('a lift', () => {
  test('removes the peer and updates all pages at once', async () => {
    const { url, books } = await served({ intervalSeconds: 3600 });
    ban(books, 'mallory');
    ban(books, 'eve');
    const stream = await events(url);
    const { listing } = await stream.next('hello');
    expect(listing.bans.map(({ key }) => key).sort()).toEqual(['eve', 'mallory']);
    expect((await lift(url, { limiter: 'books', key: 'mallory' })).status).toBe(204);
    expect(books.isBanned('mallory')).toBe(false);
    expect((await stream.next('listing')).bans.map(({ key }) => key)).toEqual(['eve']);
  });

  test.each(['', '\0', 'nick-\ud800', '\u202eevil', '__proto__', '"\n\ndata: x', 'k'.repeat(2048)])(
    'the key %j',
    async (key) => {
      const { url, books } = await served({ intervalSeconds: 3600 });
      ban(books, key);
      const stream = await events(url);
      const { listing } = await stream.next('hello');
      expect(listing.bans).toMatchObject([{ key, length: key.length, limiter: 1 }]);
      expect((await lift(url, { limiter: 'books', key: listing.bans[0]?.key })).status).toBe(204);
      expect(books.isBanned(key)).toBe(false);
    },
  );

  test.each<[number, unknown]>([
    [400, '{'],
    [400, 'null'],
    [400, '[]'],
    [400, { limiter: 'books' }],
    [400, { limiter: 'books', key: 7 }],
    [404, { limiter: 'nobody', key: 'mallory' }],
    [404, { limiter: '__proto__', key: 'mallory' }],
    [413, { limiter: 'books', key: 'x'.repeat(70_000) }],
  ])('answers %i to %j', async (status, what) => {
    const { url, books } = await served();
    ban(books, 'mallory');
    expect((await lift(url, what)).status).toBe(status);
    expect(books.isBanned('mallory')).toBe(true);
  });

  test.each([
    ['another site', { 'Sec-Fetch-Site': 'cross-site' }],
    ['another host of this site', { 'Sec-Fetch-Site': 'same-site' }],
    ['another origin', { Origin: 'http://evil.example' }],
    ['another port', { Origin: 'http://127.0.0.1:1' }],
    ['a sandbox', { Origin: 'null' }],
  ])('refuses what %s sends', async (_, headers) => {
    const { url, books } = await served();
    ban(books, 'mallory');
    const what = { limiter: 'books', key: 'mallory' };
    expect((await lift(url, what, headers)).status).toBe(403);
    expect((await ask(`${url}events`, { headers })).status).toBe(403);
    expect(books.isBanned('mallory')).toBe(true);
  });

  test('where no ban is in force there is nothing to lift, and nobody is forgotten', async () => {
    const { url, books, messages } = await served();
    books.check('mallory');
    messages.check('mallory');
    for (const limiter of ['books', 'messages', 'others']) {
      expect((await lift(url, { limiter, key: 'mallory' })).status).toBe(404);
    }
    const what = { limiter: 'books', key: 'mallory', hash: 'of no key listed' };
    expect((await lift(url, what)).status).toBe(404);
    expect([books.getOverview().trackedPeers, messages.getOverview().trackedPeers]).toEqual([1, 1]);
  });

  test('is not accepted from a form', async () => {
    const { url } = await served();
    for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'text/json']) {
      const what = { limiter: 'books', key: 'mallory' };
      expect((await lift(url, what, { 'Content-Type': type })).status).toBe(415);
    }
  });

  test('takes what our own page sends, also where a proxy has another name', async () => {
    const { url, books } = await served();
    const what = { limiter: 'books', key: 'mallory' };
    const { origin } = new URL(url);
    ban(books, 'mallory');
    expect((await lift(url, what, { Origin: origin })).status).toBe(204);
    ban(books, 'mallory');
    const proxied = { 'Sec-Fetch-Site': 'same-origin', Origin: 'https://limits.example' };
    expect((await lift(url, what, proxied)).status).toBe(204);
  });

  test('is refused unless it is allowed', async () => {
    const { url, books } = await served({ allowLift: false });
    ban(books, 'mallory');
    expect((await lift(url, { limiter: 'books', key: 'mallory' })).status).toBe(404);
    expect(books.isBanned('mallory')).toBe(true);
    const stream = await events(url);
    expect((await stream.next('hello')).allowLift).toBe(false);
  });

  test('a connection that breaks in the middle of its body breaks nothing', async () => {
    const { url, dashboard } = await served();
    const server = createServer(dashboard).listen(0, '127.0.0.1');
    onTestFinished(() => void server.close());
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const headers = { 'Content-Type': 'application/json', 'Content-Length': 100 };
    const asking = request({ port, path: '/lift', method: 'POST', headers, agent: false });
    asking.on('error', () => {});
    asking.write('{"limiter"');
    const [, answer] = await once(server, 'request');
    asking.destroy();
    await once(answer, 'close');
    expect((await ask(url)).status).toBe(200);
  });
});

describe('a ban by hand', () => {
  test('lasts as long as it says, and who watches is told at once', async () => {
    const { url, books } = await served({ intervalSeconds: 3600 });
    const stream = await events(url);
    const { limiters } = await stream.next('hello');
    expect(limiters.map(({ ban }) => ban)).toEqual([null, { seconds: 600, most: 600 }]);
    const what = { limiter: 'books', key: 'mallory', seconds: 60 };
    expect((await post(url, 'ban', what)).status).toBe(204);
    expect(books.getBans().bans).toEqual([['mallory', 60]]);
    const { bans, began } = await stream.next('listing');
    expect(bans).toMatchObject([{ key: 'mallory', violations: 0, secondsLeft: 60 }]);
    expect(began).toMatchObject([{ key: 'mallory', limiter: 1, seconds: 60 }]);
    expect((await post(url, 'ban', { limiter: 'books', key: 'eve' })).status).toBe(204);
    expect(books.getBans().bans).toEqual([
      ['eve', 600],
      ['mallory', 60],
    ]);
  });

  test.each<[number, unknown]>([
    [400, { limiter: 'books' }],
    [400, { limiter: 'books', key: 'mallory', seconds: 0 }],
    [400, { limiter: 'books', key: 'mallory', seconds: 601 }],
    [400, { limiter: 'books', key: 'mallory', seconds: '60' }],
    [400, { limiter: 'books', key: 'mallory', violations: 1.5 }],
    [404, { limiter: 'messages', key: 'mallory' }],
    [404, { limiter: 'nobody', key: 'mallory' }],
    [404, { limiter: 'books', key: 'mallory', hash: 'of no key listed' }],
  ])('answers %i to %j', async (status, what) => {
    const { url, books } = await served();
    expect((await post(url, 'ban', what)).status).toBe(status);
    expect(books.getBans().count).toBe(0);
  });

  test('a peer that was lifted is banned again, also by a key that the listing had cut', async () => {
    const { url, books } = await served({ intervalSeconds: 3600 });
    const key = 'k'.repeat(5000);
    ban(books, key);
    const stream = await events(url);
    const [listed] = (await stream.next('hello')).listing.bans;
    const what = { limiter: 'books', key: listed?.key, hash: listed?.hash };
    expect((await lift(url, what)).status).toBe(204);
    expect(books.isBanned(key)).toBe(false);
    expect((await post(url, 'ban', what)).status).toBe(204);
    expect(books.isBanned(key)).toBe(true);
  });

  test('is refused where the limiter is full of banned peers', async () => {
    const books = new OrderbookRateLimiter({ maxPeers: 1 });
    const { url } = await served({ limiters: { books } });
    expect((await post(url, 'ban', { limiter: 'books', key: 'eve' })).status).toBe(204);
    const answer = await post(url, 'ban', { limiter: 'books', key: 'mallory' });
    expect(answer).toMatchObject({ status: 409, body: 'The limiter is full of banned peers.\n' });
  });

  test.each([{ allowBan: false }, { allowLift: false }])('not with %j', async (options) => {
    const { url, books } = await served(options);
    const what = { limiter: 'books', key: 'mallory' };
    expect((await post(url, 'ban', what)).status).toBe(404);
    expect(books.getBans().count).toBe(0);
    const { limiters } = await (await events(url)).next('hello');
    expect(limiters.every(({ ban }) => ban === null)).toBe(true);
  });

  test('a limiter whose clock fails is an answer, and the next one is right', async () => {
    let now = 0;
    const books = new OrderbookRateLimiter({ clock: () => now });
    const { url } = await served({ limiters: { books } });
    now = Number.NaN;
    const what = { limiter: 'books', key: 'mallory' };
    for (const name of ['ban', 'lift']) expect((await post(url, name, what)).status).toBe(500);
    now = 1;
    expect((await post(url, 'ban', what)).status).toBe(204);
  });
});

describe('a search', () => {
  test('returns violations and bans of each limiter without changes', async () => {
    const { url, books, messages } = await served();
    ban(books, 'mallory');
    for (let n = 0; n < 13; n += 1) messages.check('mallory');
    const found = await post(url, 'find', { key: 'mallory' });
    expect(found).toMatchObject({ status: 200, headers: { 'cache-control': 'no-store' } });
    expect(JSON.parse(found.body)).toEqual({
      peers: [
        { limiter: 0, violations: 3, banned: null },
        { limiter: 1, violations: 1, banned: true, secondsLeft: 600 },
      ],
    });
    const unknown = await post(url, 'find', { key: '\ud800' });
    expect(JSON.parse(unknown.body).peers).toEqual([
      { limiter: 0, violations: 0, banned: null },
      { limiter: 1, violations: 0, banned: false },
    ]);
    expect([books.getOverview().peers, messages.getOverview().peers]).toEqual([1, 1]);
  });

  test('is refused to other sites, and needs a key', async () => {
    const { url } = await served();
    const headers = { 'Sec-Fetch-Site': 'cross-site' };
    expect((await post(url, 'find', { key: 'mallory' }, headers)).status).toBe(403);
    for (const what of [{}, { key: 7 }, [], null]) {
      expect((await post(url, 'find', what)).status).toBe(400);
    }
    expect((await ask(`${url}find`)).status).toBe(405);
  });
});
