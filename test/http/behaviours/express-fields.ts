// What the fields of express-rate-limit say, and the keys of addresses.

import { addressKey } from 'relay-limiter/address';
import { parseRateLimitHeaders } from 'relay-limiter/headers';
import { type Draft, type RateLimitOptions, rateLimitOf } from 'relay-limiter/http';
import { expect } from 'vitest';
import { ask, type Middleware, outcomeOf, requestFrom } from '../support.js';
import { fails, fieldsOf, last, NAMES, rateLimit, statusesOf } from './express-support.js';
import { type Behaviour, differs, held } from './table.js';

const parsed = async (headers: Draft) => {
  const fields = Object.entries(await fieldsOf(headers)).map(([name, value]) => [
    name,
    String(value),
  ]);
  return parseRateLimitHeaders(Object.fromEntries(fields));
};

export const fields: Behaviour[] = [
  held('the X-RateLimit fields state limit, remaining and reset', async () => {
    const { [NAMES.legacy]: remaining, ...others } = await fieldsOf('legacy');
    expect(remaining).toBe(4);
    expect(others['x-ratelimit-limit']).toBe(5);
  }),
  held('X-RateLimit-Reset is in epoch seconds', async () => {
    const before = Math.floor(Date.now() / 1000);
    const reset = Number((await fieldsOf('legacy'))['x-ratelimit-reset']);
    expect(reset).toBeGreaterThanOrEqual(before + 12);
    expect(reset).toBeLessThanOrEqual(Math.ceil(Date.now() / 1000) + 12);
  }),
  held('draft 6 has three fields and the policy', async () => {
    expect(await fieldsOf(6)).toMatchObject({
      'ratelimit-policy': '5;w=60',
      'ratelimit-limit': 5,
      'ratelimit-remaining': 4,
    });
  }),
  held('draft 7 has one field and the policy', async () => {
    const { ratelimit, 'ratelimit-policy': policy } = await fieldsOf(7);
    expect(policy).toBe('5;w=60');
    expect(ratelimit).toMatch(/^limit=5, remaining=4, reset=\d+$/);
  }),
  held('newer drafts name the policy, what remains and the reset', async () => {
    const { ratelimit, 'ratelimit-policy': policy } = await fieldsOf(11);
    expect(policy).toBe('"5-in-60s";q=5;w=60');
    expect(ratelimit).toMatch(/^"5-in-60s";r=4;t=\d+$/);
  }),
  held('newer drafts list all limits of a request', async () => {
    const [one, two] = [rateLimit({ limit: 1, windowSeconds: 5 }), rateLimit({ limit: 5 })];
    const both: Middleware = (request, response, next) =>
      one(request, response, () => two(request, response, next));
    const { ratelimit, 'ratelimit-policy': policy } = (await ask(both)).fields;
    expect(policy).toBe('"1-in-5s";q=1;w=5, "5-in-60s";q=5;w=60');
    expect(ratelimit).toBe('"1-in-5s";r=0;t=5, "5-in-60s";r=4;t=12');
  }),
  held('the name of the policy can be set (identifier)', async () => {
    const { ratelimit } = await fieldsOf(11, { name: 'keep-kalm' });
    expect(ratelimit).toContain('"keep-kalm";');
  }),
  held('old and new fields can be sent together', async () => {
    const both = await fieldsOf([7, 'legacy']);
    expect(Object.keys(both)).toEqual(expect.arrayContaining(['ratelimit', 'x-ratelimit-limit']));
  }),
  held('fields can be switched off', async () => {
    expect(await fieldsOf(false)).toEqual({});
  }),
  held('Retry-After comes with a refusal', async () => {
    expect((await last(rateLimit({ limit: 1 }), 2)).fields['retry-after']).toBe('60');
  }),
  held('Retry-After does not come with an allowed request', async () => {
    expect((await ask(rateLimit({ limit: 1 }))).fields['retry-after']).toBeUndefined();
  }),
  held('a response that has begun gets no fields', () => {
    const response = { headersSent: true, setHeader: fails };
    let passed = 0;
    rateLimit({ limit: 1 })(requestFrom(), response as never, () => {
      passed += 1;
    });
    expect(passed).toBe(1);
  }),
  held('a client can parse the X-RateLimit fields', async () => {
    expect((await parsed('legacy')).limits[0]).toMatchObject({ limit: 5, remaining: 4 });
  }),
  held('a client can parse the fields of draft 6', async () => {
    expect((await parsed(6)).limits[0]).toMatchObject({ limit: 5, remaining: 4 });
  }),
  held('a client can parse the fields of draft 7', async () => {
    expect((await parsed(7)).limits[0]).toMatchObject({ limit: 5, remaining: 4 });
  }),
  held('a request can say what is left (request.rateLimit)', async () => {
    const limit = rateLimit({ limit: 5 });
    const left: unknown[] = [];
    for (let n = 0; n < 2; n += 1) {
      const request = requestFrom();
      await outcomeOf(limit, request);
      left.push(rateLimitOf(request));
    }
    expect(left).toMatchObject([
      { limit: 5, remaining: 4 },
      { limit: 5, remaining: 3 },
    ]);
  }),
  held('a request can say when the quota is whole again', async () => {
    const request = requestFrom();
    await outcomeOf(rateLimit({ limit: 5 }), request);
    expect(rateLimitOf(request)?.resetSeconds).toBe(12);
  }),
  held('a refused request can say so too', async () => {
    const limit = rateLimit({ limit: 1, headers: false });
    await ask(limit);
    const request = requestFrom();
    await outcomeOf(limit, request);
    expect(rateLimitOf(request)).toMatchObject({ limit: 1, remaining: 0 });
  }),
  differs('the X-RateLimit fields are the default', 'draft 11 is; `headers` sets others'),
  differs(
    'the reset is the end of the window',
    'in the drafts the time of the next token, in X-RateLimit-Reset that of a full bucket',
  ),
  differs(
    'without any fields there is no Retry-After',
    'every refusal has it: it costs nothing and helps',
  ),
  differs('an unknown draft sends no fields', 'an error when the middleware is created'),
  differs(
    'draft 8 sends a hash of the key as partition key',
    'no partition key: a hash for each response is expensive, and identifies the client to others',
  ),
  differs('policies are named like `5-in-1min`', 'like `5-in-60s`'),
  differs(
    'the state is a property of the request, under a name of your choice',
    '`rateLimitOf(request)`, which costs nothing until it is called',
  ),
];

const keyOf = async (address: string, options: Partial<RateLimitOptions> = {}) => {
  let key = '';
  await ask(
    rateLimit({
      limit: 1,
      onVerdict: (verdict) => {
        key = verdict.key;
      },
      ...options,
    }),
    { address },
  );
  return key;
};

export const addresses: Behaviour[] = [
  held('an IPv4 address is a key as it is', async () => {
    expect(await keyOf('1.2.3.4')).toBe('1.2.3.4');
  }),
  held('IPv4-mapped IPv6 is the IPv4 address', async () => {
    expect(await keyOf('::ffff:1.2.3.4')).toBe('1.2.3.4');
  }),
  held('IPv4-mapped IPv6 in hexadecimal is the same', async () => {
    expect(await keyOf('::ffff:102:304')).toBe('1.2.3.4');
  }),
  held('IPv6 that only ends like IPv4 counts by its network', async () => {
    expect(await keyOf('2001:db8:1234:5678::1.2.3.4')).toBe('2001:db8:1234:5678::/64');
  }),
  held('IPv6 counts by its network, of any length', async () => {
    expect(await keyOf('123:4567:89ab:cdef:123:4567:89ab:cdef', { ipv6Subnet: 56 })).toBe(
      '123:4567:89ab:cd00::/56',
    );
    expect(await keyOf('123:4567:89ab:cdef:123:4567:89ab:cdef', { ipv6Subnet: 63 })).toBe(
      '123:4567:89ab:cdee::/63',
    );
  }),
  held('with 128 bits each IPv6 address counts by itself', async () => {
    expect(await keyOf('0123:4567:89ab::cdef', { ipv6Subnet: 128 })).toBe('123:4567:89ab::cdef');
  }),
  held('abbreviated and long forms are one key', async () => {
    expect(await keyOf('123:ABC::89')).toBe(await keyOf('0123:0abc:0:0:0:0:0:89'));
  }),
  held('a helper makes such keys for functions of your own (ipKeyGenerator)', () => {
    expect(addressKey('2001:db8::1', { ipv6Subnet: 56 })).toBe('2001:db8::/56');
  }),
  held('a trusted proxy names the client', async () => {
    const limit = rateLimit({ limit: 1, trustedProxies: 'loopback' });
    const via = (client: string) => ({
      address: '127.0.0.1',
      headers: { 'x-forwarded-for': client },
    });
    expect(await statusesOf(limit, [via('1.1.1.1'), via('2.2.2.2'), via('1.1.1.1')])).toEqual([
      200, 200, 429,
    ]);
  }),
  differs('IPv6 counts by its /56', 'by its /64, the network of one link'),
  differs('ipv6Subnet may be a function, or false', 'a `key` that calls `addressKey`, or 128'),
  differs('64:ff9b::1.2.3.4 counts by its /56', 'as 1.2.3.4, which a translator has put there'),
  differs('::1.2.3.4 counts as 1.2.3.4', 'by its network: such addresses are no longer in use'),
];
