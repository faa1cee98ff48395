// A RuleLimiter through files of relay-limiter/persist: what time does to it, and what another limiter takes of it.

import { readFileSync } from 'node:fs';
import { type EngineName, RateLimiter, RuleLimiter, type RuleLimiterOptions } from 'relay-limiter';
import { keepSnapshot, loadSnapshot, saveSnapshot } from 'relay-limiter/persist';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { codeOfRejection, testFolder } from '../persist/support.js';
import { ENGINES, type ManualClock, manualClock } from '../support/limiters.js';

const folder = testFolder();
const START = 1_700_000_000_000;
const PAIRS = ENGINES.flatMap((from) => ENGINES.map((to): [EngineName, EngineName] => [from, to]));

describe.each(PAIRS)('a RuleLimiter saved by %s, loaded by %s', (from, to) => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['Date'], now: START });
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  const create = (
    engine: EngineName,
    clock: ManualClock,
    options: Partial<RuleLimiterOptions> = {},
  ) =>
    new RuleLimiter({
      engine,
      clock,
      scopes: { address: { kind: 'address' }, account: {}, server: { single: true } },
      rules: {
        messages: { scope: 'address', rateLimit: 0.1, burstLimit: 10 },
        events: { scope: 'account', quota: 100, windowSeconds: 1000 },
      },
      bans: { address: { violations: 4, withinSeconds: 400, seconds: [600, 6000] } },
      ...options,
    });

  /** Saves, and loads `seconds` later by the wall clock, in a process whose own clock began anew. */
  async function restarted(
    limits: RuleLimiter,
    seconds: number,
    options: Partial<RuleLimiterOptions> = {},
  ) {
    await saveSnapshot(limits, folder.file());
    vi.setSystemTime(START + seconds * 1000);
    const clock = manualClock(5);
    const next = create(to, clock, options);
    return { clock, next, count: await loadSnapshot(next, folder.file()) };
  }

  const remaining = (limits: RuleLimiter, keys: Record<string, string>) =>
    Object.fromEntries(limits.peek(keys, 0).rules.map((r) => [r.rule, r.remaining]));

  test('bans are shorter by the time between, and those by hand for ever stay so', async () => {
    const limits = create(from, manualClock());
    for (let n = 0; n < 4; n += 1) limits.check({ address: '192.0.2.7' }, 11);
    limits.ban('account', 'mallory', Infinity);
    limits.ban('account', 'eve', 100);
    const { next, clock, count } = await restarted(limits, 250);
    expect(count).toBe(3);
    expect(next.banSecondsLeft('address', '192.0.2.7')).toBe(350);
    expect(next.banSecondsLeft('account', 'mallory')).toBe(Infinity);
    expect(next.banSecondsLeft('account', 'eve')).toBe(0);
    expect(next.scope('address').getViolationCount('192.0.2.7')).toBe(4);
    // The second ban of the key is the longer one.
    clock.now += 351;
    for (let n = 0; n < 3; n += 1)
      expect(next.check({ address: '192.0.2.7' }, 11).outcome).toBe('delay');
    expect(next.check({ address: '192.0.2.7' }, 11)).toMatchObject({
      outcome: 'banned',
      delaySeconds: 6000,
    });
  });

  test('used tokens are refilled and levels are drained for the time between', async () => {
    const limits = create(from, manualClock());
    const [offender, other] = ['192.0.2.7', '192.0.2.8'];
    limits.check({ address: offender, account: 'a' }, 9);
    for (let n = 0; n < 3; n += 1) limits.check({ address: offender }, 11);
    limits.check({ address: other, account: 'b' }, 9);
    const { next } = await restarted(limits, 40);
    // 4 of 10 tokens came back to each address, and 4 of 100 to each account.
    const left = { messages: 5, events: 95 };
    expect(remaining(next, { address: offender, account: 'a' })).toEqual(left);
    expect(remaining(next, { address: other, account: 'b' })).toEqual(left);
    // The level was 3 of 4, and 0.4 of it has drained.
    expect(next.check({ address: offender }, 11).outcome).toBe('delay');
    expect(next.check({ address: offender }, 11).outcome).toBe('banned');
  });

  test('the bucket of a single scope comes back, refilled for the time between', async () => {
    const rules = { everybody: { scope: 'server', rateLimit: 0.1, burstLimit: 100 } };
    const options = { rules, bans: {} };
    const limits = create(from, manualClock(), options);
    limits.check({}, 60);
    const { next, count } = await restarted(limits, 50, options);
    // It is no key.
    expect(count).toBe(0);
    expect(remaining(next, {})).toEqual({ everybody: 45 });
    // What has been used by then stays used.
    next.check({}, 30);
    next.restore(limits.snapshot());
    expect(remaining(next, {})).toEqual({ everybody: 15 });
    // A scope of the same name with keys is another scope.
    const keyed = create(to, manualClock(), { ...options, scopes: { server: {} } });
    keyed.restore(limits.snapshot());
    expect(remaining(keyed, { server: '' })).toEqual({ everybody: 100 });
  });

  test('a wall clock that went back changes nothing', async () => {
    const limits = create(from, manualClock());
    limits.check({ address: '192.0.2.7', account: 'a' }, 9);
    limits.ban('account', 'mallory', 100);
    const { next } = await restarted(limits, -1e6);
    expect(next.banSecondsLeft('account', 'mallory')).toBe(100);
    expect(remaining(next, { address: '192.0.2.7' })).toEqual({ messages: 1 });
  });

  test('very long keys come back, among others, and the file has bounded lines', async () => {
    const limits = create(from, manualClock());
    const long = Array.from({ length: 20 }, (_, n) => `${n} `.padEnd(50_000, 'k'));
    for (const key of long) limits.ban('account', key, 1000);
    for (let n = 0; n < 50; n += 1) limits.check({ account: `other-${n}` }, 50);
    const { next, count } = await restarted(limits, 0);
    expect(count).toBe(70);
    expect(
      next
        .getBans('account')
        .bans.map(([key]) => key)
        .sort(),
    ).toEqual([...long].sort());
    expect(remaining(next, { account: 'other-7' })).toEqual({ events: 50 });
    const lines = readFileSync(folder.file(), 'utf8').split('\n');
    for (const line of lines) expect(line.length).toBeLessThan(150_000);
  });

  test('many keys of several scopes come back by slices', async () => {
    const limits = create(from, manualClock());
    for (let n = 0; n < 2500; n += 1) {
      limits.check({ address: `10.0.${n >> 8}.${n & 255}`, account: `a${n}` }, 5);
      if (n % 2 === 0) limits.ban('account', `a${n}`, 60);
    }
    const { next, count } = await restarted(limits, 10);
    expect(count).toBe(5000);
    expect(next.getBans('account', 1)).toMatchObject({
      count: 1250,
      bans: [[expect.any(String), 50]],
    });
    expect(remaining(next, { address: '10.0.3.4', account: 'a772' })).toEqual({
      messages: 6,
      events: 96,
    });
  });

  test('scopes and rules that the limiter does not have are skipped', async () => {
    const limits = create(from, manualClock());
    limits.check({ address: '192.0.2.7', account: 'a' }, 9);
    limits.ban('account', 'mallory', 100);
    const { next, count } = await restarted(limits, 0, {
      scopes: { account: {}, room: {} },
      rules: {
        events: { scope: 'room', rateLimit: 0.1 },
        posts: { scope: 'account', rateLimit: 0.1, burstLimit: 10 },
      },
      bans: {},
    });
    // Of the account `a` nothing is known but tokens of a rule that is not here.
    expect(count).toBe(1);
    expect(next.banSecondsLeft('account', 'mallory')).toBe(100);
    expect(remaining(next, { account: 'a', room: 'a' })).toEqual({ events: 1, posts: 10 });
  });

  test.each<[string, Partial<RuleLimiterOptions>]>([
    ['without keys', {}],
    ['whose scopes are all single', { scopes: { server: { single: true } }, rules: {}, bans: {} }],
  ])('a limiter %s is saved and loaded', async (_, options) => {
    const { next, count } = await restarted(create(from, manualClock(), options), 0, options);
    expect(count).toBe(0);
    expect(await loadSnapshot(create(to, manualClock()), folder.file())).toBe(0);
    const other = loadSnapshot(new RateLimiter({ engine: to }), folder.file());
    expect(await codeOfRejection(other)).toBe('ERR_LIMITER_SNAPSHOT');
    await saveSnapshot(new RateLimiter({ engine: from }), folder.file());
    expect(await codeOfRejection(loadSnapshot(next, folder.file()))).toBe('ERR_LIMITER_SNAPSHOT');
  });

  test('keepSnapshot saves it when it stops', async () => {
    const limits = create(from, manualClock());
    const keeper = keepSnapshot(limits, folder.file());
    limits.ban('account', 'mallory', 100);
    await keeper.stop();
    const next = create(to, manualClock());
    expect(await loadSnapshot(next, folder.file())).toBe(1);
    expect(next.banSecondsLeft('account', 'mallory')).toBe(100);
  });
});
