// Whom express-rate-limit limits, what it answers, and what does not count.

import type { IncomingMessage, ServerResponse } from 'node:http';
import { rateLimit as createLimit, type RateLimitOptions, refusalError } from 'relay-limiter/http';
import { expect } from 'vitest';
import { type Asking, ask, type Middleware } from '../support.js';
import {
  answer,
  by,
  clock,
  FAILURE,
  fails,
  last,
  ofKey,
  rateLimit,
  rejects,
  statuses,
  statusesOf,
  times,
} from './express-support.js';
import { type Behaviour, differs, held } from './table.js';

export const requests: Behaviour[] = [
  held('the options object is left as it is', () => {
    const options = Object.freeze({ limit: 1, clock });
    createLimit(options);
    expect(options).toEqual({ limit: 1, clock });
  }),
  held('the first request passes', async () => {
    expect(await statuses(rateLimit({ limit: 1 }), 1)).toEqual([200]);
  }),
  held('a client that has reached the limit is refused with 429', async () => {
    expect(await statuses(rateLimit({ limit: 2 }), 3)).toEqual([200, 200, 429]);
  }),
  held('a refused client passes again after the window', async () => {
    const limit = rateLimit({ limit: 2 });
    await statuses(limit, 3);
    clock.now += 60;
    expect(await statuses(limit, 1)).toEqual([200]);
  }),
  held('it works repeatedly', async () => {
    const limit = rateLimit({ limit: 2 });
    for (let n = 0; n < 3; n += 1) {
      expect(await statuses(limit, 3)).toEqual([200, 200, 429]);
      clock.now += 60;
    }
  }),
  held('each address is counted by itself', async () => {
    const limit = rateLimit({ limit: 1 });
    const asked = [{ address: '192.0.2.1' }, { address: '192.0.2.2' }, { address: '192.0.2.1' }];
    expect(await statusesOf(limit, asked)).toEqual([200, 200, 429]);
  }),
  held('limit may be a function', async () => {
    expect(await statuses(rateLimit({ limit: () => 2 }), 3)).toEqual([200, 200, 429]);
  }),
  held('limit may be a function that returns a promise', async () => {
    expect(await statuses(rateLimit({ limit: async () => 2 }), 3)).toEqual([200, 200, 429]);
  }),
  held('limit gets the request, so that clients have different limits', async () => {
    const limit = rateLimit({
      limit: (request) => (ofKey(request) === 'paid' ? 3 : 1),
      key: ofKey,
    });
    const asked = [...times(2, by('free')), ...times(4, by('paid'))];
    expect(await statusesOf(limit, asked)).toEqual([200, 429, 200, 200, 200, 429]);
  }),
  held('an error of limit goes to next', async () => {
    for (const limit of [fails, rejects]) {
      expect((await ask(rateLimit({ limit }))).error).toBe(FAILURE);
    }
  }),
  held('a key function decides who is counted together', async () => {
    const limit = rateLimit({ limit: 2, key: ofKey });
    const asked = [by('1'), by('1'), by('2'), by('1'), by('2'), by('2')];
    expect(await statusesOf(limit, asked)).toEqual([200, 200, 200, 429, 200, 429]);
  }),
  held('the key may come by a promise', async () => {
    const limit = rateLimit({ limit: 1, key: async (request) => ofKey(request) });
    expect(await statusesOf(limit, [by('1'), by('2'), by('1')])).toEqual([200, 200, 429]);
  }),
  held('one key for all is a limit of the whole server', async () => {
    const limit = rateLimit({ limit: 1, key: () => 'all' });
    expect(await statusesOf(limit, [{ address: '192.0.2.1' }, { address: '192.0.2.2' }])).toEqual([
      200, 429,
    ]);
  }),
  held('an error of the key goes to next', async () => {
    for (const key of [fails, rejects]) {
      expect((await ask(rateLimit({ limit: 1, key }))).error).toBe(FAILURE);
    }
  }),
  held('skip lets requests pass without a limit', async () => {
    expect(await statuses(rateLimit({ limit: 1, skip: () => true }), 3)).toEqual([200, 200, 200]);
  }),
  held('skip may return a promise', async () => {
    const limit = rateLimit({ limit: 1, skip: async () => true });
    expect(await statuses(limit, 3)).toEqual([200, 200, 200]);
  }),
  held('a request that is not skipped is counted', async () => {
    const limit = rateLimit({ limit: 1, skip: (request) => ofKey(request) === 'health' });
    expect(await statusesOf(limit, [by('a'), by('health'), by('a')])).toEqual([200, 200, 429]);
  }),
  held('an error of skip goes to next', async () => {
    for (const skip of [fails, rejects]) {
      expect((await ask(rateLimit({ limit: 1, skip }))).error).toBe(FAILURE);
    }
  }),
  held('two limits on one request count independently', async () => {
    const inner = rateLimit({ limit: 2, key: ofKey, statusCode: 420, name: 'key' });
    const outer = rateLimit({ limit: 5, key: () => 'all', name: 'all' });
    const both: Middleware = (request, response, next) =>
      inner(request, response, (error) => (error ? next(error) : outer(request, response, next)));
    const asked = ['1', '2', '1', '2', '1', '3', '3'].map(by);
    expect(await statusesOf(both, asked)).toEqual([200, 200, 200, 200, 420, 200, 429]);
  }),
  differs('the default limit is 5', 'a limit must be given: no number suits everybody'),
  differs('a limit of 0 blocks everybody', 'an error: blocking everybody needs no limiter'),
  differs('`max` is another name of `limit`', 'an error, as for every unknown option'),
  differs(
    'the count starts again at the end of each window',
    'tokens come back one by one, so no client gets twice the limit at the edge of a window',
  ),
];

export const answers: Behaviour[] = [
  held('message replaces the text', async () => {
    const { status, body } = await last(rateLimit({ limit: 1, message: 'Enhance your calm' }), 2);
    expect([status, body]).toEqual([429, 'Enhance your calm']);
  }),
  held('message may be an object, sent as JSON', async () => {
    const message = { error: { code: 'too-many-requests' } };
    const { body, fields } = await last(rateLimit({ limit: 1, message }), 2);
    expect(JSON.parse(body)).toEqual(message);
    expect(fields['content-type']).toContain('application/json');
  }),
  held('message may be a function of the request and the response', async () => {
    const message = (request: IncomingMessage, response: ServerResponse) =>
      `${ofKey(request)} ${response.statusCode}`;
    expect((await last(rateLimit({ limit: 1, message }), 2, by('a'))).body).toBe('a 429');
  }),
  held('message may return a promise', async () => {
    expect((await last(rateLimit({ limit: 1, message: async () => 'slow' }), 2)).body).toBe('slow');
  }),
  held('an error of message goes to next', async () => {
    for (const message of [fails, rejects]) {
      expect((await last(rateLimit({ limit: 1, message }), 2)).error).toBe(FAILURE);
    }
  }),
  held('statusCode replaces 429', async () => {
    expect((await last(rateLimit({ limit: 1, statusCode: 420 }), 2)).status).toBe(420);
  }),
  held('a handler answers instead', async () => {
    const limit = rateLimit({
      limit: 1,
      handler: (_, response) => {
        response.statusCode = 420;
        response.end('Enhance your calm');
      },
    });
    expect(await last(limit, 2)).toMatchObject({ status: 420, body: 'Enhance your calm' });
  }),
  held('a handler gets the status code that is due', async () => {
    const limit = rateLimit({
      limit: 1,
      statusCode: 503,
      handler: (_, response, __, refusal) => response.end(String(refusal.statusCode)),
    });
    expect((await last(limit, 2)).body).toBe('503');
  }),
  held('a handler may let the request pass by next', async () => {
    const limit = rateLimit({ limit: 1, handler: (_, __, next) => next() });
    expect((await last(limit, 3)).passed).toBe(true);
  }),
  held('a handler may pass an error to next', async () => {
    const limit = rateLimit({
      limit: 1,
      handler: (_, __, next, refusal) => next(refusalError(refusal)),
    });
    expect((await last(limit, 2)).error).toMatchObject({ status: 429 });
  }),
  held('an error of the handler goes to next', async () => {
    for (const handler of [fails, rejects]) {
      expect((await last(rateLimit({ limit: 1, handler }), 2)).error).toBe(FAILURE);
    }
  }),
  held('a handler may send another Retry-After', async () => {
    const limit = rateLimit({
      limit: 1,
      handler: (_, response) => response.setHeader('Retry-After', '120').end(),
    });
    expect((await last(limit, 2)).fields['retry-after']).toBe('120');
  }),
  differs(
    'the default text is "Too many requests, please try again later."',
    'problem details, or a sentence with the seconds for browsers',
  ),
  differs(
    'a handler gets the options as its fourth argument',
    'it gets the refusal: policy, key, wait and status code',
  ),
  differs('onLimitReached is called once at the first refusal', '`onVerdict` gets every decision'),
];

const SUCCESS = 200;
const ERROR = 400;
const successOnly: RateLimitOptions = {
  limit: 1,
  refundWhen: (_, { statusCode }) => statusCode >= 400,
};
const failedOnly: RateLimitOptions = {
  limit: 1,
  refundWhen: (_, { statusCode }) => statusCode < 400,
};

/** Whether a request is still counted after its response. */
async function isCounted(
  options: RateLimitOptions,
  statusCode: number,
  ...more: [string?, Asking?]
) {
  const limit = rateLimit(options);
  answer(limit, statusCode, ...more);
  await new Promise((resolve) => setImmediate(resolve));
  return !(await ask(limit)).passed;
}

export const refunds: Behaviour[] = [
  held('successful requests need not count (skipSuccessfulRequests)', async () => {
    expect(await isCounted(failedOnly, SUCCESS)).toBe(false);
  }),
  held('failed requests count then', async () => {
    expect(await isCounted(failedOnly, ERROR)).toBe(true);
  }),
  held('failed requests need not count (skipFailedRequests)', async () => {
    expect(await isCounted(successOnly, ERROR)).toBe(false);
    expect(await isCounted(successOnly, 500)).toBe(false);
  }),
  held('successful requests count then', async () => {
    expect(await isCounted(successOnly, SUCCESS)).toBe(true);
  }),
  held('what is a success may depend on the response (requestWasSuccessful)', async () => {
    const refundWhen: RateLimitOptions['refundWhen'] = (_, { statusCode }) => statusCode === 201;
    expect(await isCounted({ limit: 1, refundWhen }, 201)).toBe(false);
    expect(await isCounted({ limit: 1, refundWhen }, 200)).toBe(true);
  }),
  held('what is a success may depend on the request', async () => {
    const refundWhen: RateLimitOptions['refundWhen'] = (request) => ofKey(request) === 'yes';
    expect(await isCounted({ limit: 1, refundWhen }, 200, 'finish', by('yes'))).toBe(false);
    expect(await isCounted({ limit: 1, refundWhen }, 200, 'finish', by('no'))).toBe(true);
  }),
  held('what is a success may be told by a promise', async () => {
    const refundWhen = async () => true;
    expect(await isCounted({ limit: 1, refundWhen }, 200)).toBe(false);
  }),
  held('requests count while they are answered', async () => {
    const limit = rateLimit(failedOnly);
    answer(limit, SUCCESS, 'prefinish');
    expect((await ask(limit)).passed).toBe(false);
  }),
  held('a refused request costs nothing', async () => {
    const limit = rateLimit({ ...successOnly, limit: 2 });
    expect(await statuses(limit, 5)).toEqual([200, 200, 429, 429, 429]);
    clock.now += 30;
    expect(await statuses(limit, 1)).toEqual([200]);
  }),
  differs(
    'a request whose client leaves before the answer does not count as failed',
    'it counts: otherwise a client could try passwords for free, by leaving early',
  ),
];
