// Processes that end or stop in the middle of whatever they do with a shared table.

import { type LimiterError, removeShared } from 'relay-limiter';
import { afterEach, describe, expect, test } from 'vitest';
import { checkAny } from '../../dist/limiters/verdict.js';
import { TESTS_NATIVE } from '../support/limiters.js';
import { Member, newName } from './support/members.js';
import { opened } from './support/opened.js';

const PROCESSES = 3;
const KILLS = 8;
const BANNED = 20;
/** So few peers that there is always room for another one. */
const SMALL = { maxPeers: 100, keys: 50 };

/**
 * The result of a call that needs a part of a table which other processes use. On a very busy machine a process may not
 * run for a second, so that the others find its part stalled: the call is made again.
 */
async function unstalled<Result>(call: () => Result): Promise<Result> {
  for (;;) {
    try {
      return call();
    } catch (error) {
      if ((error as LimiterError).code !== 'ERR_LIMITER_SHARED') throw error;
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
}

// SIGSTOP, and /proc to see that it has come.
describe.runIf(TESTS_NATIVE && process.platform === 'linux')('A shared table under load', () => {
  let name = '';
  const members: Member[] = [];
  afterEach(async () => {
    await Promise.all(members.splice(0).map((member) => member.end()));
    removeShared(name);
  });

  /** Few peers in two parts of the table, so that most calls meet others, and newcomers evict. */
  const OPTIONS = {
    ...{ violationBanThreshold: 20, banDuration: 1e6, interval: 1e6 },
    maxPeers: 600,
  };
  const METHODS = ['check', 'check', 'check', 'isBanned', 'removePeer', 'getViolationCount'];

  async function startLoad(): Promise<Member> {
    const member = await Member.process();
    await member.open('OrderbookRateLimiter', { ...OPTIONS, shared: name });
    await member.load(METHODS, 2000);
    return member;
  }

  test('keeps its bans and violations, and waits for nobody, while processes are killed', async () => {
    name = newName();
    const limiter = opened('OrderbookRateLimiter', { ...OPTIONS, shared: name });
    const banned = Array.from({ length: BANNED }, (_, n) => `banned-${n}`);
    for (const key of banned) expect(limiter.ban(key, 1e6, 7)).toBe(true);
    for (let n = 0; n < PROCESSES; n += 1) members.push(await startLoad());
    for (let n = 0; n < KILLS; n += 1) {
      const at = n % PROCESSES;
      const victim = members[at] as Member;
      await victim.progress();
      await victim.end();
      members[at] = await startLoad();
      for (const member of members) await member.progress();
      expect(limiter.shared?.attached).toBe(PROCESSES + 1);
      for (const key of banned) {
        expect(await unstalled(() => limiter.isBanned(key))).toBe(true);
        expect(await unstalled(() => limiter.getViolationCount(key))).toBe(7);
      }
    }
    for (const member of members) expect(member.warnings).toEqual([]);
    await Promise.all(members.splice(0).map((member) => member.end()));
    // Nobody changes it any more: every number agrees with what it counts.
    const { bannedPeers, ...stats } = limiter.getStatistics();
    expect(stats.peers).toBeLessThanOrEqual(1.25 * OPTIONS.maxPeers);
    expect(limiter.getBans(1e6).count).toBe(bannedPeers.length);
    expect(bannedPeers).toEqual(expect.arrayContaining(banned));
    const { peers } = limiter.snapshot();
    const sum = peers.reduce((total, { violations }) => total + violations, 0);
    expect(stats.totalViolations).toBe(sum);
    limiter.clear();
    expect(limiter.getStatistics()).toMatchObject({ peers: 0, totalViolations: 0 });
  });

  test('refuses the peers of a stopped process, which is named, until it goes on', async () => {
    name = newName();
    const options = { ...OPTIONS, shared: name, maxPeers: SMALL.maxPeers };
    const limiter = opened('OrderbookRateLimiter', options);
    const holder = await Member.process();
    members.push(holder);
    await holder.open('OrderbookRateLimiter', options);
    await holder.load(['check'], SMALL.keys);
    // A stop may come between two calls. Then nothing is stalled, and the process is stopped again.
    let error: unknown;
    while (error === undefined) {
      holder.signal('SIGSTOP');
      await holder.stopped();
      try {
        limiter.getViolationCount('alice');
      } catch (thrown) {
        error = thrown;
      }
      if (error === undefined) {
        holder.signal('SIGCONT');
        await holder.progress();
      }
    }
    expect(error).toMatchObject({ code: 'ERR_LIMITER_SHARED' });
    expect((error as Error).message).toContain(String(holder.pid));
    expect(limiter.check('alice')).toBe(false);
    // What guards and middleware ask after a refusal.
    expect(checkAny(limiter, 'alice')).toEqual(['delay', 0.05]);
    for (const call of ['isBanned', 'removePeer', 'ban', 'unban', 'banSecondsLeft'] as const) {
      expect(() => limiter[call]('alice'), call).toThrow(`${holder.pid}`);
    }
    expect(() => limiter.getStatistics()).toThrow(`${holder.pid}`);
    expect(() => limiter.cleanupOldEntries()).not.toThrow();

    holder.signal('SIGCONT');
    await holder.progress();
    await holder.end();
    expect(limiter.getViolationCount('alice')).toBe(0);
    expect(limiter.check('alice')).toBe(true);
    limiter.clear();
    expect(limiter.check('alice')).toBe(true);
  });

  test('is not held up by a stopped process that is killed', async () => {
    name = newName();
    const options = { ...OPTIONS, shared: name, maxPeers: SMALL.maxPeers };
    const limiter = opened('OrderbookRateLimiter', options);
    const holder = await Member.process();
    await holder.open('OrderbookRateLimiter', options);
    await holder.load(['check'], SMALL.keys);
    holder.signal('SIGSTOP');
    await holder.stopped();
    await holder.end();
    limiter.ban('alice');
    expect(limiter.isBanned('alice')).toBe(true);
    expect(limiter.shared?.attached).toBe(1);
  });
});
