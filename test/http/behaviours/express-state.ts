// The state of express-rate-limit, its stores, and the mistakes that it reports.

import { RateLimiter, RuleLimiter } from 'relay-limiter';
import { rateLimit as createLimit } from 'relay-limiter/http';
import { expect } from 'vitest';
import { codeOf } from '../../support/limiters.js';
import { sharedLimiter } from '../shared-limiter.js';
import { ask } from '../support.js';
import {
  answer,
  clock,
  fieldsOf,
  last,
  NAMES,
  ofKey,
  rateLimit,
  statuses,
  statusesOf,
} from './express-support.js';
import { type Behaviour, differs, held } from './table.js';

export const states: Behaviour[] = [
  held('the first request counts 1', async () => {
    expect((await fieldsOf(6))[NAMES[6]]).toBe(4);
  }),
  held('the second request counts 2', async () => {
    expect((await last(rateLimit({ limit: 5, headers: 6 }), 2)).fields[NAMES[6]]).toBe(3);
  }),
  held('a request can be taken back by hand (decrement)', () => {
    const limiter = new RuleLimiter({
      scopes: { address: { kind: 'address' } },
      rules: { all: { scope: 'address', quota: 5, windowSeconds: 60 } },
      clock,
    });
    answer(rateLimit({ limiter }), 200);
    limiter.refund('192.0.2.1');
    expect(limiter.peek('192.0.2.1').rules[0]?.remaining).toBe(5);
  }),
  held('resetKey lets a client begin again', async () => {
    const limit = rateLimit({ limit: 1 });
    await statuses(limit, 2);
    limit.resetKey('192.0.2.1');
    expect(await statuses(limit, 1)).toEqual([200]);
  }),
  held('resetKey leaves other clients as they are', async () => {
    const limit = rateLimit({ limit: 1 });
    await statuses(limit, 1);
    limit.resetKey('192.0.2.2');
    expect(await statuses(limit, 1)).toEqual([429]);
  }),
  held('all clients can begin again (resetAll)', async () => {
    const limiter = new RateLimiter({ rateLimit: 1, burstLimit: 1, clock });
    const limit = rateLimit({ limiter });
    const asked = [{ address: '192.0.2.1' }, { address: '192.0.2.2' }];
    await statusesOf(limit, asked);
    limiter.clear();
    expect(await statusesOf(limit, asked)).toEqual([200, 200]);
  }),
  held('what a client has left can be read (getKey)', async () => {
    const limiter = new RateLimiter({ rateLimit: 1, burstLimit: 5, clock });
    await ask(rateLimit({ limiter }));
    expect(limiter.getTokens('192.0.2.1')).toBe(4);
  }),
  held('the limit can be closed and works on (shutdown)', async () => {
    const limit = rateLimit({ limit: 1 });
    limit.close();
    expect(await statuses(limit, 2)).toEqual([200, 429]);
  }),
  held('a window may be longer than a timer', async () => {
    const limit = rateLimit({ limit: 1, windowSeconds: 30 * 86_400 });
    expect(await statuses(limit, 2)).toEqual([200, 429]);
    clock.now += 30 * 86_400 + 1;
    expect(await statuses(limit, 1)).toEqual([200]);
  }),
  held('counts can be kept where several processes share them', async () => {
    const limiter = sharedLimiter(clock, { mode: 'local', rateLimit: 1, burstLimit: 1 });
    expect(await statuses(rateLimit({ limiter }), 2)).toEqual([200, 429]);
    await limiter.close();
  }),
  held('a store that fails can let requests pass (passOnStoreError)', async () => {
    const options = { rateLimit: 1, burstLimit: 1, onStoreFailure: 'open' } as const;
    const limiter = sharedLimiter(clock, options, { isAway: true });
    expect(await statuses(rateLimit({ limiter }), 3)).toEqual([200, 200, 200]);
    await limiter.close();
  }),
  held('an error of the limiter goes to next', async () => {
    const limiter = new RateLimiter({ clock: () => Number.NaN });
    expect((await ask(rateLimit({ limiter }))).error).toMatchObject({ code: 'ERR_LIMITER_CLOCK' });
  }),
  held('what is no limiter is rejected', () => {
    expect(codeOf(() => createLimit({ limiter: { invalid: true } as never }))).toBe(
      'ERR_LIMITER_OPTION',
    );
  }),
  differs(
    'a store of your own: init, increment, decrement, resetKey',
    'a limiter of this package, in the process or by Redis: a counter in a store cannot be a token bucket',
  ),
  differs('stores of the older interface with callbacks', 'as above'),
];

const invalid = (options: object) => codeOf(() => createLimit(options as never));

export const mistakes: Behaviour[] = [
  held('an unknown option is reported', () => {
    expect(invalid({ limit: 1, windowMs: 1000 })).toBe('ERR_LIMITER_OPTION');
  }),
  held('an invalid subnet is reported', () => {
    expect(invalid({ limit: 1, ipv6Subnet: 129 })).toBe('ERR_LIMITER_OPTION');
  }),
  held('a subnet beside a key function, which ignores it, is reported', () => {
    expect(invalid({ limit: 1, ipv6Subnet: 56, key: ofKey })).toBe('ERR_LIMITER_OPTION');
  }),
  held('trusting every proxy by `true` is reported', () => {
    expect(invalid({ limit: 1, trustedProxies: true })).toBe('ERR_LIMITER_OPTION');
  }),
  held('a request without an address is an error', async () => {
    const { error } = await ask(rateLimit({ limit: 1 }), { address: '' });
    expect(error).toMatchObject({ code: 'ERR_LIMITER_KEY' });
  }),
  held('an address that is none is an error', async () => {
    const { error } = await ask(rateLimit({ limit: 1 }), { address: 'badip' });
    expect(error).toMatchObject({ code: 'ERR_LIMITER_KEY' });
  }),
  held('an invalid result of limit is an error of the request', async () => {
    const { error } = await ask(rateLimit({ limit: () => 1.5 }));
    expect(error).toMatchObject({ code: 'ERR_LIMITER_OPTION' });
  }),
  held('an invalid cost of a request is an error of the request', async () => {
    const { error } = await ask(rateLimit({ limit: 1, cost: () => Number.NaN }));
    expect(error).toMatchObject({ code: 'ERR_LIMITER_COST' });
  }),
  differs('an address with a port is reported', 'it is read without its port'),
  differs('two limits that share a store are reported', 'limits may share a limiter'),
  differs(
    'single checks can be switched off (validate)',
    "`warnings: false`, or Node's `--disable-warning=CODE`; options are always checked",
  ),
];
