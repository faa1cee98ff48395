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
/** Rules of which nothing refills while a test runs. */
const RULES = {
  scopes: { connection: {}, account: {}, server: { single: true } },
  rules: {
    messages: { scope: 'connection', rateLimit: 1e-9, burstLimit: 4 },
    requests: { scope: 'account', rateLimit: 1e-9, burstLimit: 4 },
    everybody: { scope: 'server', rateLimit: 1e-9, burstLimit: 1e9 },
  },
  maxPeers: 100,
};
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

/** Stops a process under load in the middle of a call, so that `call` throws; returns the error. */
async function stopInCall(holder: Member, call: () => unknown): Promise<LimiterError> {
  for (;;) {
    holder.signal('SIGSTOP');
    await holder.stopped();
    try {
      call();
    } catch (error) {
      expect(error).toMatchObject({ code: 'ERR_LIMITER_SHARED' });
      return error as LimiterError;
    }
    // It was between two calls: nothing is stalled.
    holder.signal('SIGCONT');
    await holder.progress();
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
    const error = await stopInCall(holder, () => limiter.getViolationCount('alice'));
    expect(error.message).toContain(String(holder.pid));
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

  test('refuses a check of rules while a process is stopped in another one', async () => {
    name = newName();
    const limiter = opened('RuleLimiter', { ...RULES, shared: name });
    const holder = await Member.process();
    members.push(holder);
    await holder.open('RuleLimiter', { ...RULES, shared: name });
    await holder.load(['check'], SMALL.keys);
    const peer = limiter.open({ connection: 'alice' });
    // The state of single scopes is locked last, and released first: the part with the keys is locked as well.
    const { message } = await stopInCall(holder, () => limiter.peek({}));
    expect(message).toContain(String(holder.pid));
    const refused = { outcome: 'delay', delaySeconds: 0.05 };
    for (const check of [
      () => limiter.check({ connection: 'alice', account: 'a' }),
      () => limiter.check({}),
      () => peer.check(),
    ]) {
      expect(check()).toMatchObject(refused);
    }
    const calls: [name: string, call: () => unknown][] = [
      ['peek', () => limiter.peek({ connection: 'alice' })],
      ['charge', () => limiter.charge({ connection: 'alice' })],
      ['refund', () => limiter.refund({ connection: 'alice' })],
      ['ban', () => limiter.ban('connection', 'alice', 60)],
      ['unban', () => limiter.unban('connection', 'alice')],
      ['getBans', () => limiter.getBans('connection')],
      ['removePeer', () => limiter.removePeer({ connection: 'alice' })],
      ['getStats', () => limiter.getStats()],
      ['snapshot', () => limiter.snapshot()],
      ['update', () => limiter.update({ plans: { paid: { messages: null } } })],
      ['clear', () => limiter.clear()],
    ];
    for (const [what, call] of calls) expect(call, what).toThrow(`${holder.pid}`);
    expect(limiter.cleanup()).toBe(0);

    holder.signal('SIGCONT');
    await holder.progress();
    await holder.end();
    // Nothing of that was done, and the refused checks were no violations.
    expect(limiter.scope('connection').getViolationCount('alice')).toBe(0);
    expect(limiter.banSecondsLeft('connection', 'alice')).toBe(0);
    expect(limiter.check({ connection: 'alice' }, 3).outcome).toBe('allow');
    expect(peer.check(2)).toMatchObject({ outcome: 'delay', rule: 'messages' });
    expect(() => limiter.check({ connection: 'alice' }, 1, undefined, 'paid')).toThrow('paid');
    limiter.update({ plans: { paid: { messages: null } } });
    expect(limiter.check({ connection: 'alice' }, 1, undefined, 'paid').outcome).toBe('allow');
  });
});
