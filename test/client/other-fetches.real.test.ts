// limitFetch over real HTTP with node-fetch 2 and 3 and with whatwg-fetch.

import { createRequire } from 'node:module';
import { Readable } from 'node:stream';
import { limitFetch, PolicyLimiter } from 'relay-limiter/client';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { goneServer, refusing, serve } from './http.js';
import { hastyLimiter, NOW, plenty } from './support.js';
import { XmlHttpRequest } from './xml-http-request.js';

type Fetch = typeof fetch;

// Not all of them have types.
const load = createRequire(import.meta.url);
const nodeFetch2: Fetch = load('node-fetch-2');
const nodeFetch3: Fetch = async (...args) =>
  (await import('node-fetch')).default(...(args as [string])) as never;
const whatwgFetch: Fetch = load('whatwg-fetch').fetch;

const STREAMING: [name: string, fetch: Fetch][] = [
  ['node-fetch 2', nodeFetch2],
  ['node-fetch 3', nodeFetch3],
];
const FETCHES: [name: string, fetch: Fetch][] = [...STREAMING, ['whatwg-fetch', whatwgFetch]];

const holder = globalThis as { XMLHttpRequest?: unknown };
const original = holder.XMLHttpRequest;
beforeAll(() => {
  holder.XMLHttpRequest = XmlHttpRequest;
});
afterAll(() => {
  if (original === undefined) delete holder.XMLHttpRequest;
  else holder.XMLHttpRequest = original;
});

const PROBLEM = JSON.stringify({
  type: 'https://iana.org/assignments/http-problem-types#quota-exceeded',
  'violated-policies': ['a'],
});
const PROBLEM_TYPE = { 'Content-Type': 'application/problem+json', 'Retry-After': '120' };

describe.each(FETCHES)('limitFetch with %s', (_, plain) => {
  it.each([undefined, 60])(
    'returns the response of a 200, sent once, with its body unread (deadline: %s)',
    async (deadlineSeconds) => {
      const server = await serve(refusing(0, 200, {}));
      let given: Response | undefined;
      const watching: Fetch = async (...args) => {
        given = await plain(...args);
        return given;
      };
      const limited = limitFetch(watching, new PolicyLimiter(plenty), { deadlineSeconds });
      const response = await limited(server.origin, { headers: { 'x-a': '1' } });
      expect(response.status).toBe(200);
      expect(response).toBe(given);
      expect(response.bodyUsed).toBe(false);
      expect(await response.text()).toBe('yes');
      expect(server.received).toHaveLength(1);
      expect(server.received[0]?.headers).toMatchObject({ 'x-a': '1' });
    },
  );

  it.each([429, 503])('records and repeats a refusal with status %i', async (status) => {
    const server = await serve(refusing(1, status, NOW));
    const limiter = hastyLimiter();
    const refused: unknown[] = [];
    limiter.on('refused', (event) => refused.push(event));
    const init = { method: 'PUT', body: 'text' };
    const response = await limitFetch(plain, limiter)(server.origin, init);
    expect(response.status).toBe(200);
    expect(await response.text()).toBe('yes');
    expect(server.received.map(({ body }) => body)).toEqual(['text', 'text']);
    expect(refused).toEqual([{ status, retryAfterSeconds: 0 }]);
  });

  it('obeys the limits of a good response', async () => {
    const fields = { 'RateLimit-Policy': '"a";q=5;w=120', RateLimit: '"a";r=0;t=120' };
    const server = await serve((response) => response.writeHead(200, fields).end('yes'));
    const limiter = new PolicyLimiter({ ...plenty, clock: () => 0 });
    await (await limitFetch(plain, limiter)(server.origin)).text();
    expect(limiter.tryAcquire()).toBe(false);
    expect(limiter.delaySeconds()).toBeGreaterThanOrEqual(120);
  });

  it('reads the problem body of a refusal, and leaves it readable', async () => {
    const server = await serve((response) => response.writeHead(429, PROBLEM_TYPE).end(PROBLEM));
    const limiter = new PolicyLimiter({ ...plenty, clock: () => 0 });
    const response = await limitFetch(plain, limiter, { maxAttempts: 1 })(server.origin);
    expect(response.status).toBe(429);
    // The wait is that of the policy in the body, and does not block the rest of the upstream.
    expect(limiter.state().blockedSeconds).toBe(0);
    expect(limiter.delaySeconds()).toBeGreaterThanOrEqual(120);
    expect(response.bodyUsed).toBe(false);
    expect(await response.text()).toBe(PROBLEM);
  });

  it('repeats a request without an answer, and rejects with the error of the last attempt', async () => {
    const { origin } = await goneServer();
    let sent = 0;
    const counting: Fetch = (...args) => {
      sent += 1;
      return plain(...args);
    };
    const limiter = new PolicyLimiter(plenty);
    const call = limitFetch(counting, limiter, { maxAttempts: 2 })(origin);
    await expect(call).rejects.toThrow(/ECONNREFUSED|Network request failed/);
    expect(sent).toBe(2);
    expect(limiter.state().running).toBe(0);
  });

  it('rejects if the call is aborted while its answer is awaited', async () => {
    const abort = new AbortController();
    const server = await serve(() => abort.abort());
    const limiter = new PolicyLimiter(plenty);
    const call = limitFetch(plain, limiter)(server.origin, { signal: abort.signal });
    await expect(call).rejects.toMatchObject({ name: 'AbortError' });
    expect(server.received).toHaveLength(1);
    expect(limiter.state().running).toBe(0);
  });
});

describe.each(STREAMING)('limitFetch with %s and streams', (_, plain) => {
  it('sends a stream as it is, once, and returns the stream of a response as it arrives', async () => {
    const server = await serve((response, { body }) => {
      response.writeHead(503, NOW).write(body);
      // The rest is sent when the first part has been read.
      response.once('finished-reading' as 'close', () => response.end(' and more'));
      parts.push(() => response.emit('finished-reading'));
    });
    const parts: (() => void)[] = [];
    const body = Readable.from([Buffer.from('a stream')]);
    const init = { method: 'PUT', body: body as unknown as BodyInit };
    const response = await limitFetch(plain, hastyLimiter())(server.origin, init);
    expect(response.status).toBe(503);
    let text = '';
    for await (const chunk of response.body as unknown as Readable) {
      text += chunk;
      if (text === 'a stream') for (const finish of parts) finish();
    }
    expect(text).toBe('a stream and more');
    expect(server.received.map((request) => request.body)).toEqual(['a stream']);
  });
});
