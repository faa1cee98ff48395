// The dashboard's request handler: its responses, at every mount path.

import { once } from 'node:events';
import { createServer, type RequestListener } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import express from 'express';
import Fastify from 'fastify';
import { createDashboard, type DashboardOptions } from 'relay-limiter/dashboard';
import { describe, expect, onTestFinished, test } from 'vitest';
import { codeOf } from '../support/limiters.js';
import { ask, ban, events, lift, limiters, served } from './support.js';

async function serve(listener: RequestListener) {
  const server = createServer(listener).listen(0, '127.0.0.1');
  onTestFinished(() => void server.close());
  await once(server, 'listening');
  return { server, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` };
}

function dashboardFor(options: Partial<DashboardOptions> = {}) {
  const dashboard = createDashboard({ limiters: limiters(), ...options });
  onTestFinished(() => dashboard.close());
  return dashboard;
}

describe('createDashboard', () => {
  const good = { limiters: limiters() };

  test.each<[string, object]>([
    ['no limiters', { limiters: {} }],
    ['what is no limiter', { limiters: { messages: {} } }],
    ['an unknown name', { ...good, tokens: 'x'.repeat(20) }],
    ['a short token', { ...good, token: 'secret' }],
    ['a token that no header can carry', { ...good, token: 'sixteen letters;' }],
    ['a title that is none', { ...good, title: 7 }],
    ['allowLift', { ...good, allowLift: 'no' }],
    ['allowBan', { ...good, allowBan: 1 }],
    ['an interval of 0', { ...good, intervalSeconds: 0 }],
    ['an interval that no timer keeps', { ...good, intervalSeconds: 3601 }],
    ['a path without a slash', { ...good, path: 'limits' }],
  ])('rejects an invalid option: %s', (_, options) => {
    expect(codeOf(() => createDashboard(options as DashboardOptions))).toBe('ERR_LIMITER_OPTION');
  });

  test('keeps an invalid token out of its message', () => {
    expect(() => createDashboard({ ...good, token: 'hunter2' })).toThrow(/^(?!.*hunter2)/);
  });
});

describe('the files of the dashboard', () => {
  test('are served with a strict security policy', async () => {
    const { url } = await served();
    const page = await ask(url);
    expect(page).toMatchObject({
      status: 200,
      headers: { 'content-type': 'text/html; charset=utf-8' },
    });
    const policy = String(page.headers['content-security-policy']);
    expect(policy).toContain("default-src 'none'");
    expect(policy).not.toContain('unsafe');
    expect(page.body).not.toMatch(/<script>|style=|https?:/);
    const links = [...page.body.matchAll(/(?:href|src)="([^"]+)"/g)].map(([, link]) => `${link}`);
    expect(links).toEqual(expect.arrayContaining(['page.css', 'uplot.css', 'main.js']));
    for (const link of links) {
      const file = await ask(url + link);
      expect([link, file.status, file.headers['x-content-type-options']]).toEqual([
        link,
        200,
        'nosniff',
      ]);
      expect(file.body.length).toBeGreaterThan(100);
    }
  });

  test.each(['main.js', 'uplot.css'])('include the licence of uPlot in %s', async (name) => {
    const { url } = await served();
    const { body } = await ask(url + name);
    expect(body).toContain('uPlot');
    expect(body).toContain('Leon Sorokin');
    expect(body).toContain('Permission is hereby granted');
  });

  test('are not sent again if unchanged', async () => {
    const { url } = await served();
    const { headers } = await ask(`${url}main.js`);
    const again = await ask(`${url}main.js`, { headers: { 'If-None-Match': headers.etag } });
    expect(again).toMatchObject({ status: 304, body: '' });
  });

  test.each(['main.ts', 'main.js.map', '../index.js', '%2e%2e/index.js', 'events/', '/', 'a/b'])(
    'nothing at %s',
    async (name) => {
      const { url } = await served();
      expect(await rawStatus(Number(new URL(url).port), `/${name}`)).toBe(404);
    },
  );

  test('are served for GET and HEAD only', async () => {
    const { url } = await served();
    expect(await ask(url, { method: 'HEAD' })).toMatchObject({ status: 200, body: '' });
    expect(await ask(`${url}events`, { method: 'HEAD' })).toMatchObject({ status: 200, body: '' });
    for (const name of ['', 'events', 'main.js']) {
      const put = await ask(url + name, { method: 'PUT' });
      expect(put).toMatchObject({ status: 405, headers: { allow: 'GET, HEAD' } });
    }
    const get = await ask(`${url}lift`);
    expect(get).toMatchObject({ status: 405, headers: { allow: 'POST' } });
  });
});

/** The status of a path that is sent as it is: fetch would normalize it. */
async function rawStatus(port: number, path: string): Promise<number> {
  const socket = connect(port, '127.0.0.1');
  socket.end(`GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`);
  let text = '';
  for await (const chunk of socket.setEncoding('utf8')) text += chunk;
  return Number(/^HTTP\/1.1 (\d+)/.exec(text)?.[1]);
}

describe('the dashboard handler works', () => {
  test('in Express, under a prefix, with or without its slash', async () => {
    const app = express();
    app.use('/admin/limits', dashboardFor());
    const { url } = await serve(app);
    const bare = await ask(`${url}/admin/limits?a=b`);
    expect(bare).toMatchObject({ status: 303, headers: { location: './limits/?a=b' } });
    const at = `${url}/admin/limits/`;
    expect((await ask(at)).body).toContain('<title>');
    expect((await ask(`${at}main.js`)).status).toBe(200);
    expect((await ask(`${at}nothing`)).status).toBe(404);
    const stream = await events(at);
    expect((await stream.next('hello')).title).toBe('relay-limiter');
    stream.stop();
  });

  test('in Express behind express.json(), which has read the body', async () => {
    const watchedLimiters = limiters();
    const app = express();
    app.use(express.json(), dashboardFor({ limiters: watchedLimiters }));
    const { url } = await serve(app);
    ban(watchedLimiters.books, 'mallory');
    const answer = await ask(`${url}/lift`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: '{"limiter":"books","key":"mallory"}',
    });
    expect(answer.status).toBe(204);
    expect(watchedLimiters.books.getStatistics().trackedPeers).toBe(0);
  });

  test('in Fastify as documented, which has read the body', async () => {
    const { books } = limiters();
    const dashboard = dashboardFor({ limiters: { books }, path: '/limits' });
    const fastify = Fastify();
    onTestFinished(() => fastify.close());
    for (const path of ['/limits', '/limits/*']) {
      fastify.all(path, (request, reply) => {
        reply.hijack();
        dashboard(Object.assign(request.raw, { body: request.body }), reply.raw);
      });
    }
    const url = `${await fastify.listen({ port: 0, host: '127.0.0.1' })}/limits/`;
    expect((await ask(url.slice(0, -1))).headers.location).toBe('./limits/');
    expect((await ask(`${url}main.js`)).status).toBe(200);
    const stream = await events(url);
    await stream.next('hello');
    stream.stop();
    ban(books, 'mallory');
    expect((await lift(url, { limiter: 'books', key: 'mallory' })).status).toBe(204);
    expect(books.isBanned('mallory')).toBe(false);
  });

  test('with status 500 and a warning if other code has read the body', async () => {
    const dashboard = dashboardFor();
    const { url } = await serve((request, response) => {
      request.resume().on('end', () => dashboard(request, response));
    });
    const warning = once(process, 'warning');
    const answer = await lift(`${url}/`, { limiter: 'books', key: 'mallory' });
    expect(answer.status).toBe(500);
    expect(String((await warning)[0])).toContain('request.body must be set');
  });

  test.each(['/limits', '/limits/'])('in node:http, with the path %s', async (path) => {
    const { url } = await serve(dashboardFor({ path }));
    const bare = await ask(`${url}/limits`);
    expect(bare).toMatchObject({ status: 303, headers: { location: './limits/' } });
    expect((await ask(`${url}/limits/`)).status).toBe(200);
    expect((await ask(`${url}/limits/page.css`)).status).toBe(200);
    for (const elsewhere of ['/', '/page.css', '/limitspage.css', '/limits/limits/']) {
      expect((await ask(url + elsewhere)).status).toBe(404);
    }
  });

  test('by listen, which returns the URL', async () => {
    const { url, dashboard } = await served({ path: '/limits' });
    expect(url).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/limits\/$/);
    expect((await ask(url)).status).toBe(200);
    await expect(dashboard.listen(Number(new URL(url).port))).rejects.toThrow('EADDRINUSE');
  });
});
