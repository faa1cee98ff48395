// A RuleLimiter on the dashboard, over real sockets: what the page may do with its scopes.

import { RateLimiter } from 'relay-limiter';
import { createDashboard } from 'relay-limiter/dashboard';
import { describe, expect, test } from 'vitest';
import { codeOf } from '../support/limiters.js';
import { events, lift, post, ruleLimiter, served } from './support.js';

const ADDRESS = '192.0.2.7';
const RELAY = 'relay / address';

async function servedRules() {
  const relay = ruleLimiter();
  return { relay, ...(await served({ limiters: { relay }, intervalSeconds: 3600 })) };
}

describe('a RuleLimiter on the dashboard', () => {
  test('is shown as a whole and by its scopes, each with its bans by hand', async () => {
    const { url } = await servedRules();
    const { hasRules, limiters, listing } = await (await events(url)).next('hello');
    const scope = { kind: 'RuleScope', liftForgets: false, whole: 0 };
    expect(limiters).toEqual([
      { name: 'relay', kind: 'RuleLimiter', ban: null, liftForgets: null, whole: null },
      { name: RELAY, ...scope, ban: { seconds: 60, most: 'forever' } },
      { name: 'relay / account', ...scope, ban: { seconds: 3600, most: 'forever' } },
    ]);
    expect(hasRules).toBe(true);
    expect(listing.rules.map(({ rule }) => rule)).toEqual(['messages', 'events', 'everybody']);
  });

  test('is rejected beside a limiter with the name of one of its scopes', () => {
    const limiters = { relay: ruleLimiter(), [RELAY]: new RateLimiter({ engine: 'js' }) };
    expect(codeOf(() => createDashboard({ limiters }))).toBe('ERR_LIMITER_OPTION');
  });

  test('lifts a ban by unban, and the ban can be given back for as long as it had left', async () => {
    const { url, relay } = await servedRules();
    for (let n = 0; n < 5; n += 1) relay.check({ address: ADDRESS });
    const what = { limiter: RELAY, key: ADDRESS };
    expect((await lift(url, what)).status).toBe(204);
    expect(relay.banSecondsLeft('address', ADDRESS)).toBe(0);
    expect(relay.scope('address').getViolationCount(ADDRESS)).toBe(3);
    expect((await lift(url, what)).status).toBe(404);
    expect((await post(url, 'ban', { ...what, seconds: 42, violations: 3 })).status).toBe(204);
    expect(relay.banSecondsLeft('address', ADDRESS)).toBe(42);
    expect(relay.scope('address').getViolationCount(ADDRESS)).toBe(3);
  });

  test.each<[number, object, number]>([
    [204, { limiter: RELAY, key: ADDRESS }, 60],
    [204, { limiter: RELAY, key: ADDRESS, seconds: 1e9 }, 1e9],
    [204, { limiter: RELAY, key: ADDRESS, seconds: 'forever' }, Infinity],
    [400, { limiter: RELAY, key: ADDRESS, seconds: 0 }, 0],
    [400, { limiter: RELAY, key: ADDRESS, seconds: 'for ever' }, 0],
    [400, { limiter: RELAY, key: 'mallory' }, 0],
    [400, { limiter: 'relay / account', key: ADDRESS }, 0],
    [404, { limiter: 'relay', key: ADDRESS }, 0],
    [404, { limiter: 'relay / server', key: ADDRESS }, 0],
  ])('answers %i to the ban %j', async (status, what, seconds) => {
    const { url, relay } = await servedRules();
    expect((await post(url, 'ban', what)).status).toBe(status);
    expect(relay.banSecondsLeft('address', ADDRESS)).toBe(seconds);
    expect(relay.getBans('account').count).toBe(0);
  });

  test('refuses to lift by a key that the scope cannot have', async () => {
    const { url } = await servedRules();
    expect((await lift(url, { limiter: RELAY, key: 'mallory' })).status).toBe(400);
  });

  test('finds a key in the scopes that can have it, with what its bans have left', async () => {
    const { url, relay } = await servedRules();
    relay.ban('address', ADDRESS, Infinity);
    relay.ban('account', 'mallory', 90);
    const find = async (key: string) => JSON.parse((await post(url, 'find', { key })).body).peers;
    expect(await find(ADDRESS)).toEqual([
      { limiter: 1, violations: 0, banned: true, secondsLeft: 'forever' },
      { limiter: 2, violations: 0, banned: false },
    ]);
    expect(await find('mallory')).toEqual([
      { limiter: 2, violations: 0, banned: true, secondsLeft: 90 },
    ]);
  });
});
