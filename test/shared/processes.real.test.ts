// One table for all processes and threads of a machine, of every kind that a server may have.

import { RateLimiter, removeShared } from 'relay-limiter';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { excess } from '../../out/examples/fleet/bound.js';
import { TESTS_NATIVE } from '../support/limiters.js';
import { Member, newName } from './support/members.js';

/**
 * The engine reuses a reading of the clock for up to 65 microseconds, so admissions may be that much closer together
 * than the machine's clock says.
 */
const CLOCK_SECONDS = 1e-4;

const KINDS: [name: string, members: () => Promise<Member>[]][] = [
  ['separate processes', () => [Member.process(), Member.process()]],
  ['workers of node:cluster', () => [Member.clusterWorker(), Member.clusterWorker()]],
  ['worker threads', () => [Member.thread(), Member.thread()]],
  ['processes and threads', () => [Member.process(), Member.clusterWorker(), Member.thread()]],
];

describe.runIf(TESTS_NATIVE).each(KINDS)('Limiters with one shared table in %s', (_, start) => {
  let name = '';
  let members: Member[] = [];
  // Each test has limiters of its own in the same members: it takes longer to start a process than to run a test.
  beforeAll(async () => {
    members = await Promise.all(start());
  });
  afterEach(async () => {
    // The first call stops the cleanup, if there is one.
    for (let n = 0; n < 2; n += 1) await Promise.all(members.map((member) => member.call('close')));
    removeShared(name);
  });
  afterAll(() => Promise.all(members.map((member) => member.end())));
  const open = async (limiter: string, options: object) => {
    name = newName();
    await Promise.all(
      members.map((member) => member.open(limiter, { maxPeers: 1000, ...options, shared: name })),
    );
  };

  test.each([
    ['RateLimiter', 'check', { rateLimit: 500, burstLimit: 50 }, 500, 50],
    [
      'DirectConnectionRateLimiter',
      'checkMessage',
      { messageRatePerSec: 500, messageBurst: 50 },
      500,
      50,
    ],
    [
      'OrderbookRateLimiter',
      'check',
      { interval: 0.002, violationBanThreshold: 1e9, violationWarningThreshold: 1e9 },
      500,
      1,
    ],
  ])('admit together what one limiter would: %s', async (limiter, method, options, rate, burst) => {
    const severe = limiter === 'OrderbookRateLimiter' ? { violationSevereThreshold: 1e9 } : {};
    await open(limiter, { ...options, ...severe });
    const keys = ['a', 'b', 'c'];
    const floods = await Promise.all(members.map((member) => member.flood(method, keys, 30_000)));
    for (const key of keys) {
      const admissions = floods.flat().filter((admission) => admission.key === key);
      expect(admissions.length).toBeGreaterThanOrEqual(burst);
      expect(excess(admissions, rate, burst)).toBeLessThanOrEqual(rate * CLOCK_SECONDS);
    }
    const call = limiter === 'RateLimiter' ? 'getStats' : 'getStatistics';
    for (const member of members) {
      const { verdicts } = (await member.call(call)) as ReturnType<RateLimiter['getStats']>;
      const allowed = floods.flat().length;
      expect(verdicts).toMatchObject({ allow: allowed, disconnect: 0 });
      // A check that meets a process which does not run, on a busy machine, is refused without being counted.
      expect(verdicts.delay).toBeGreaterThan(0);
      expect(verdicts.delay).toBeLessThanOrEqual(members.length * 30_000 - allowed);
    }
  });

  test('see the bans of each other, which are reported where they begin', async () => {
    await open('OrderbookRateLimiter', { violationBanThreshold: 2, banDuration: 600 });
    const [first, second] = members as [Member, Member];
    expect(await first.call('check', 'mallory')).toBe(true);
    expect(await second.call('check', 'mallory')).toBe(false);
    expect(await first.call('check', 'mallory')).toBe(false);
    expect(await first.call('isBanned', 'mallory')).toBe(false);
    expect(await second.call('check', 'mallory')).toBe(false);
    for (const member of members) {
      expect(await member.call('isBanned', 'mallory')).toBe(true);
      const bans = member === second ? [{ key: 'mallory', violations: 2, banDuration: 600 }] : [];
      expect(member.bans).toMatchObject(bans);
    }
    expect(await first.call('ban', 'eve')).toBe(true);
    expect(await second.call('getBans')).toMatchObject({ count: 2 });
    expect(await second.call('unban', 'eve')).toBe(true);
    expect(await first.call('isBanned', 'eve')).toBe(false);
    await second.call('removePeer', 'mallory');
    expect(await first.call('check', 'mallory')).toBe(true);
    await first.call('clear');
    expect(await second.call('getStatistics')).toMatchObject({ peers: 0 });
  });

  test('count each other until they end, and go on with a removed table', async () => {
    await open('RateLimiter', { rateLimit: 1e-9, burstLimit: 3 });
    const [first, ...others] = members as [Member, ...Member[]];
    const { attached, limiters, path } = await first.shared();
    expect(attached).toBe(members.length);
    expect(limiters.map(({ pid }) => pid).sort()).toEqual(members.map(({ pid }) => pid).sort());
    // The last test of these members.
    members = [first];
    await Promise.all(others.map((member) => member.end()));
    await expect.poll(() => first.shared()).toMatchObject({ attached: 1, detached: false });

    expect(await first.call('check', 'alice', 2)).toEqual(['allow', 0]);
    expect(removeShared(name)).toBe(true);
    await first.warning();
    expect(first.warnings).toMatchObject([{ code: 'ERR_LIMITER_SHARED' }]);
    expect(first.warnings[0]?.message).toContain(path);
    expect(await first.shared()).toMatchObject({ attached: 1, detached: true });
    expect(await first.call('getTokens', 'alice')).toBeCloseTo(1);
    const next = new RateLimiter({ rateLimit: 1e-9, burstLimit: 3, maxPeers: 1000, shared: name });
    expect(next.getTokens('alice')).toBe(3);
    expect(next.shared).toMatchObject({ attached: 1, detached: false });
    next.close();
    next.close();
  });
});
