// limitFetch with the responses of other implementations of fetch: node-fetch 2 and 3, React Native, mocks of tests.

import { PassThrough, Readable } from 'node:stream';
import { limitFetch, PolicyLimiter } from 'relay-limiter/client';
import { describe, expect, it, vi } from 'vitest';
import { uncaught } from '../support/uncaught.js';
import { watched } from './network.js';
import { pass, plenty, spent, useVirtualTime } from './support.js';

type Fetch = typeof fetch;

interface Given {
  status: number;
  headers?: Record<string, string>;
  text?: string;
}

// The fake timers also replace the default clock of limiters.
useVirtualTime({ toFake: ['setTimeout', 'clearTimeout', 'performance', 'Date'] });

/** A response as node-fetch has it: its body is a stream of Node, which `clone` reads too. */
class NodeFetchResponse {
  readonly status: number;
  readonly headers: Headers;
  body: Readable;

  constructor({ status, headers = {}, text = '' }: Given) {
    this.status = status;
    this.headers = new Headers(headers);
    this.body = Readable.from([Buffer.from(text)]);
  }

  clone(): NodeFetchResponse {
    const copy = new NodeFetchResponse({ status: this.status });
    const [mine, its] = [new PassThrough(), new PassThrough()];
    this.body.pipe(mine);
    this.body.pipe(its);
    this.body = mine;
    copy.body = its;
    return copy;
  }

  async text(): Promise<string> {
    let text = '';
    for await (const chunk of this.body) text += chunk;
    return text;
  }
}

/** A response as React Native and whatwg-fetch have it: without the property `body`. */
class NativeResponse {
  readonly status: number;
  readonly headers: { get(name: string): string | null; forEach: Headers['forEach'] };
  readonly #text: string;

  constructor({ status, headers = {}, text = '' }: Given) {
    const fields = new Headers(headers);
    this.status = status;
    this.headers = {
      get: (name) => fields.get(name),
      forEach: (callback) => fields.forEach(callback),
    };
    this.#text = text;
  }

  clone(): NativeResponse {
    return new NativeResponse({ status: this.status, text: this.#text });
  }

  async text(): Promise<string> {
    return this.#text;
  }
}

class MockResponse {
  readonly status: number;
  readonly headers = undefined;
  readonly #text: string;

  constructor({ status, text = '' }: Given) {
    this.status = status;
    this.#text = text;
  }

  async text(): Promise<string> {
    return this.#text;
  }
}

const RESPONSES = [
  ['node-fetch', NodeFetchResponse],
  ['React Native', NativeResponse],
  ['a mock', MockResponse],
] as const;

const PROBLEM = JSON.stringify({
  type: 'https://iana.org/assignments/http-problem-types#quota-exceeded',
  'violated-policies': ['a'],
});
const PROBLEM_TYPE = { 'Content-Type': 'application/problem+json', 'Retry-After': '20' };

describe.each(RESPONSES)('limitFetch with the responses of %s', (name, Class) => {
  /** Returns a fetch that answers with these responses, and the number of calls so far. */
  function answering(...answers: Given[]): { fetch: Fetch; sent: () => number } {
    let sent = 0;
    const answer = async () => new Class(answers[sent++] as Given) as unknown as Response;
    return { fetch: answer as Fetch, sent: () => sent };
  }

  it.each([undefined, 60])(
    'returns a 200 that it has sent once (deadline: %s)',
    async (deadline) => {
      const { fetch, sent } = answering({ status: 200, text: 'yes' });
      const limited = limitFetch(fetch, new PolicyLimiter(plenty), { deadlineSeconds: deadline });
      const response = await limited('http://a.example');
      expect(response.status).toBe(200);
      expect(await response.text()).toBe('yes');
      expect(sent()).toBe(1);
      expect(vi.getTimerCount()).toBe(0);
    },
  );

  it('records and repeats a refusal', async () => {
    const headers = { 'Retry-After': '10' };
    const { fetch, sent } = answering({ status: 429, headers, text: 'no' }, { status: 200 });
    const limiter = new PolicyLimiter(plenty);
    const outcome = watched(limitFetch(fetch, limiter)('http://a.example'));
    await pass(0);
    if (name !== 'a mock') expect(limiter.state().blockedSeconds).toBe(10);
    await pass(11);
    expect(outcome.resolved).toMatchObject({ status: 200 });
    expect(sent()).toBe(2);
  });

  it('reads the problem body of a refusal, and leaves it readable', async () => {
    const { fetch } = answering({ status: 429, headers: PROBLEM_TYPE, text: PROBLEM });
    const limiter = new PolicyLimiter(plenty);
    const response = await limitFetch(fetch, limiter, { maxAttempts: 1 })('http://a.example');
    expect(await response.text()).toBe(PROBLEM);
    if (name === 'a mock') return;
    expect(limiter.state().blockedSeconds).toBe(0);
    expect(limiter.delaySeconds()).toBe(20);
  });
});

describe('limitFetch', () => {
  it('records a refusal whose body cannot be cloned or read', async () => {
    for (const clone of [
      () => {
        throw new Error('cannot clone');
      },
      () => ({ body: { getReader: () => ({ read: () => Promise.reject(new Error('broken')) }) } }),
      () => ({ text: () => Promise.reject(new Error('broken')) }),
      () => ({}),
    ]) {
      const answer = async () =>
        Object.assign(new NodeFetchResponse({ status: 429, headers: PROBLEM_TYPE }), { clone });
      const limiter = new PolicyLimiter(plenty);
      const limited = limitFetch(answer as unknown as Fetch, limiter, { maxAttempts: 1 });
      expect((await limited('http://a.example')).status).toBe(429);
      expect(limiter.state().blockedSeconds).toBe(20);
    }
  });

  it.each([
    ['reads a short one to its end', 3, false],
    ['destroys a long one', 5_000_000, true],
  ])(
    'frees the connection of a refused response with a stream of Node: %s',
    async (_, size, isDestroyed) => {
      const body = new PassThrough();
      let sent = 0;
      const answer = async () => {
        sent += 1;
        if (sent > 1) return new Response('yes');
        return Object.assign(new NodeFetchResponse({ status: 429 }), { body });
      };
      const limiter = new PolicyLimiter({ ...plenty, random: () => 0 });
      const limited = limitFetch(answer as unknown as Fetch, limiter);
      expect((await limited('http://a.example')).status).toBe(200);
      expect(body.readableFlowing).toBe(true);
      for (let left = size; left > 0; left -= 65_536) {
        body.write(Buffer.alloc(Math.min(left, 65_536)));
        await new Promise((resolve) => setImmediate(resolve));
      }
      expect(body.destroyed).toBe(isDestroyed);
      body.destroy(new Error('broken'));
    },
  );

  it('frees the connection of a response with a stream of Node that someone has paused', async () => {
    const body = new PassThrough();
    body.pause();
    const answers = [
      Object.assign(new NodeFetchResponse({ status: 429 }), { body }),
      new Response(),
    ];
    const limiter = new PolicyLimiter({ ...plenty, random: () => 0 });
    const limited = limitFetch((async () => answers.shift()) as unknown as Fetch, limiter);
    await limited('http://a.example');
    expect(body.readableFlowing).toBe(true);
    body.destroy();
  });

  it.each([
    ['that is too long', 1000],
    ['that stops', 1],
  ])(
    'closes its copy of a problem body %s, and reads no more than 64 KiB of it',
    async (_, chunks) => {
      let pulled = 0;
      let isCancelled = false;
      const body = new ReadableStream({
        pull(controller) {
          pulled += 1;
          if (pulled <= chunks) controller.enqueue(new Uint8Array(16_384).fill(32));
          else if (chunks > 1) controller.close();
          else return new Promise(() => {});
        },
        cancel() {
          isCancelled = true;
        },
      });
      const answer = async () => new Response(body, { status: 429, headers: PROBLEM_TYPE });
      const outcome = watched(
        limitFetch(answer, new PolicyLimiter(plenty), { maxAttempts: 1 })('http://a.example'),
      );
      for (let turn = 0; turn < 100; turn += 1)
        await new Promise((resolve) => setImmediate(resolve));
      await pass(1);
      expect(pulled).toBeLessThan(10);
      expect(vi.getTimerCount()).toBe(0);
      await (outcome.resolved as Response).body?.cancel();
      expect(isCancelled).toBe(true);
    },
  );

  it('closes its copy of a problem body that is a stream of Node and stops', async () => {
    const response = new NodeFetchResponse({ status: 429, headers: PROBLEM_TYPE });
    const body = new PassThrough();
    body.write('{');
    response.body = body;
    const copies: NodeFetchResponse[] = [];
    const clone = () => {
      const copy = NodeFetchResponse.prototype.clone.call(response);
      copies.push(copy);
      return copy;
    };
    const answer = async () => Object.assign(response, { clone });
    const limited = limitFetch(answer as unknown as Fetch, new PolicyLimiter(plenty), {
      maxAttempts: 1,
    });
    const outcome = watched(limited('http://a.example'));
    await pass(1);
    expect(outcome.resolved).toMatchObject({ status: 429 });
    expect(copies.map((copy) => copy.body.destroyed)).toEqual([true]);
    expect(vi.getTimerCount()).toBe(0);
    body.end('}');
    expect(await response.text()).toBe('{}');
  });

  it('survives a refused response whose body is locked, and headers that are a plain object', async () => {
    const { body } = new Response('no');
    body?.getReader();
    let sent = 0;
    const answer = async () => {
      sent += 1;
      return sent === 1 ? { status: 429, body, headers: {} } : new Response('yes');
    };
    const limiter = new PolicyLimiter({ ...plenty, random: () => 0 });
    const response = await limitFetch(answer as unknown as Fetch, limiter)('http://a.example');
    expect(await response.text()).toBe('yes');
  });
});

describe('a request body that is a stream of Node', () => {
  const url = 'http://a.example';
  const post = (body: Readable) => ({ method: 'POST', body: body as unknown as BodyInit });

  it('rejects the call if it fails while the request waits, and nothing is sent', async () => {
    const limiter = spent();
    let sent = 0;
    const limited = limitFetch(async () => {
      sent += 1;
      return new Response();
    }, limiter);
    const body = new Readable({ read() {} });
    const call = limited(url, post(body));
    expect(limiter.state().waiting).toBe(1);
    body.destroy(new Error('no such file'));
    await expect(call).rejects.toThrow('no such file');
    expect(limiter.state().waiting).toBe(0);
    expect(sent).toBe(0);
    await expect(limited(url, post(body))).rejects.toThrow('no such file');
  });

  it('is destroyed if the call is aborted while it waits', async () => {
    const body = new Readable({ read() {} });
    const abort = new AbortController();
    const limited = limitFetch(fetch, spent());
    const call = limited(url, { ...post(body), signal: abort.signal });
    abort.abort('enough');
    await expect(call).rejects.toBe('enough');
    expect(body.destroyed).toBe(true);
    const late = new Readable({ read() {} });
    await expect(limited(url, { ...post(late), signal: abort.signal })).rejects.toBe('enough');
    expect(late.destroyed).toBe(true);
  });

  it('may fail when it is destroyed', async () => {
    const body = new Readable({
      read() {},
      destroy: (_, done) => done(new Error('cannot be closed')),
    });
    const abort = new AbortController();
    const call = limitFetch(fetch, spent())(url, { ...post(body), signal: abort.signal });
    abort.abort('enough');
    const failures = await uncaught(async () => {
      await expect(call).rejects.toBe('enough');
      await new Promise((resolve) => setImmediate(resolve));
    });
    expect(body.errored?.message).toBe('cannot be closed');
    expect(failures).toEqual([]);
  });

  it('is sent as it is, once', async () => {
    const bodies: unknown[] = [];
    const answer: Fetch = async (_, init) => {
      bodies.push(init?.body);
      return new Response('no', { status: 503 });
    };
    const body = Readable.from(['a']);
    const response = await limitFetch(answer, new PolicyLimiter(plenty))(url, {
      ...post(body),
      method: 'PUT',
    });
    expect(response.status).toBe(503);
    expect(bodies).toEqual([body]);
  });
});
