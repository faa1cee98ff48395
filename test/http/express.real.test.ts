// The middleware in real servers of Express.

import express, { type NextFunction, type Request, type Response } from 'express';
import { addressKey } from 'relay-limiter/address';
import { parseProblem } from 'relay-limiter/headers';
import { rateLimit } from 'relay-limiter/http';
import { expect, test } from 'vitest';
import { serve, statuses, strictly, times } from './support.js';

/** A window so long that no token comes back while a test runs. */
const HOUR = 3600;

test('rateLimit in Express limits all routes, one route, and sends both limits', async () => {
  const app = express();
  app.use(rateLimit({ limit: 5, windowSeconds: HOUR, name: 'all' }));
  app.get('/', (_, response) => void response.send('ok'));
  const strict = rateLimit({ limit: 1, windowSeconds: HOUR, name: 'login' });
  app.post('/login', strict, (_, response) => void response.json({}));
  const { origin } = await serve(app);
  const login = await fetch(`${origin}/login`, { method: 'POST', body: 'x'.repeat(100_000) });
  expect(login.status).toBe(200);
  expect(strictly(login.headers).limits.map(({ name, remaining }) => [name, remaining])).toEqual([
    ['all', 4],
    ['login', 0],
  ]);
  const again = await fetch(`${origin}/login`, { method: 'POST', body: 'x'.repeat(100_000) });
  expect(parseProblem(await again.json(), again.status).violated).toEqual(['login']);
  expect(await statuses(times(4, origin))).toEqual([200, 200, 200, 429]);
});

test('rateLimit in Express supports custom keys, error handlers and trusted proxies', async () => {
  const app = express();
  app.set('trust proxy', true);
  const byUser = rateLimit<Request, Response>({
    limit: 1,
    windowSeconds: HOUR,
    key: (request) => request.get('x-user') ?? unknown(),
  });
  const byIp = rateLimit<Request, Response>({
    limit: 1,
    windowSeconds: HOUR,
    key: ({ ip }) => ip ?? '',
  });
  app.get('/user', byUser, (_, response) => void response.send('ok'));
  app.get('/ip', byIp, (_, response) => void response.send('ok'));
  const byAddress = rateLimit({ limit: 1, windowSeconds: HOUR });
  app.get('/address', byAddress, (_, response) => void response.send('ok'));
  app.use((error: Error, _: Request, response: Response, __: NextFunction) => {
    response.status(500).send(error.message);
  });
  const { origin } = await serve(app);
  const of = async (path: string, headers: Record<string, string>) => {
    const response = await fetch(`${origin}${path}`, { headers });
    return [response.status, (await response.text()).slice(0, 7)];
  };
  expect(await of('/user', { 'x-user': 'a' })).toEqual([200, 'ok']);
  expect(await of('/user', { 'x-user': 'b' })).toEqual([200, 'ok']);
  expect((await of('/user', { 'x-user': 'a' }))[0]).toBe(429);
  expect(await of('/user', {})).toEqual([500, 'no user']);
  expect(await of('/ip', { 'x-forwarded-for': '192.0.2.1' })).toEqual([200, 'ok']);
  expect(await of('/ip', { 'x-forwarded-for': '192.0.2.2' })).toEqual([200, 'ok']);
  expect(await of('/address', { 'x-forwarded-for': '192.0.2.1' })).toEqual([200, 'ok']);
  expect((await of('/address', { 'x-forwarded-for': '192.0.2.2' }))[0]).toBe(429);

  function unknown(): never {
    throw new Error('no user');
  }
});

test("rateLimit in Express can use request.ip with 'trust proxy'", async () => {
  const app = express();
  app.set('trust proxy', 'loopback');
  const limit = rateLimit<Request, Response>({
    limit: 1,
    windowSeconds: HOUR,
    key: (request) => addressKey(request.ip),
    handler: (_, response, __, { statusCode }) => response.status(statusCode).json({ slow: 1 }),
  });
  app.use(limit, (_, response) => void response.send('ok'));
  app.use((error: Error, _: Request, response: Response, __: NextFunction) => {
    response.status(400).send((error as Error & { code: string }).code);
  });
  const { origin } = await serve(app);
  const of = async (forwarded: string) => {
    const response = await fetch(origin, { headers: { 'x-forwarded-for': forwarded } });
    return [response.status, await response.text()];
  };
  expect(await of('::ffff:192.0.2.1')).toEqual([200, 'ok']);
  expect(await of('192.0.2.1')).toEqual([429, '{"slow":1}']);
  expect(await of('2001:db8::1')).toEqual([200, 'ok']);
  expect((await of('2001:db8::2'))[0]).toBe(429);
  expect((await statuses([origin]))[0]).toBe(200);
  // An invalid address has no key.
  expect(await of('unknown')).toEqual([400, 'ERR_LIMITER_KEY']);
});
