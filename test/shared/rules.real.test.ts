// A RuleLimiter with one table for all processes and threads of a machine.

import {
  type RuleLimiterOptions,
  type RuleSnapshot,
  type RuleStats,
  removeShared,
} from 'relay-limiter';
import { afterEach, describe, expect, test } from 'vitest';
import { excess } from '../../out/examples/fleet/bound.js';
import { TESTS_NATIVE } from '../support/limiters.js';
import { Member, newName } from './support/members.js';

/** See processes.real.test.ts. */
const CLOCK_SECONDS = 1e-4;

const RULES = {
  messages: { scope: 'connection', rateLimit: 300, burstLimit: 30 },
  requests: { scope: 'account', rateLimit: 400, burstLimit: 40 },
  everybody: { scope: 'server', rateLimit: 900, burstLimit: 90 },
};
const OPTIONS: RuleLimiterOptions = {
  scopes: { connection: {}, account: {}, server: { single: true } },
  rules: RULES,
  maxPeers: 1000,
};

interface Keys {
  connection: string;
  account: string;
}

/** Each connection meets each account. */
const KEYS = ['a', 'b', 'c'].flatMap((connection) =>
  ['x', 'y', 'z'].map((account): Keys => ({ connection, account })),
);

const members: Member[] = [];
let name = '';
afterEach(async () => {
  await Promise.all(members.splice(0).map((member) => member.end()));
  removeShared(name);
});

async function join(member: Promise<Member>, options: object = {}): Promise<Member> {
  const joined = await member;
  members.push(joined);
  await joined.open('RuleLimiter', { ...OPTIONS, ...options, shared: name });
  return joined;
}

describe.runIf(TESTS_NATIVE)('RuleLimiters with one table in processes and threads', () => {
  const start = () => [Member.process(), Member.clusterWorker(), Member.thread()];

  test('admit together what each rule would alone', async () => {
    name = newName();
    await Promise.all(start().map((member) => join(member)));
    const floods = await Promise.all(members.map((member) => member.flood('check', KEYS, 20_000)));
    const admissions = floods.flat();
    const requireBound = (rule: keyof typeof RULES, isCounted: (keys: Keys) => boolean) => {
      const { rateLimit, burstLimit } = RULES[rule];
      const counted = admissions.filter(({ key }) => isCounted(key));
      expect(counted.length).toBeGreaterThan(0);
      expect(excess(counted, rateLimit, burstLimit)).toBeLessThanOrEqual(rateLimit * CLOCK_SECONDS);
    };
    for (const { connection, account } of KEYS) {
      requireBound('messages', (keys) => keys.connection === connection);
      requireBound('requests', (keys) => keys.account === account);
    }
    requireBound('everybody', () => true);
    for (const member of members) {
      const { outcomes, rules } = (await member.call('getStats')) as RuleStats;
      expect(outcomes.allow).toBe(admissions.length);
      expect(rules['everybody']?.checked).toBe(outcomes.allow + outcomes.delay);
    }
  });

  test('follow an update of one of them, while they check', async () => {
    name = newName();
    await Promise.all(start().map((member) => join(member)));
    const [first, ...others] = members as [Member, ...Member[]];
    const rules = {
      messages: { ...RULES.messages, rateLimit: 1e-9, burstLimit: 10 },
      everybody: RULES.everybody,
    };
    const floods = others.map((member) => member.flood('check', KEYS, 20_000));
    await first.call('update', { rules });
    await Promise.all(floods);
    // Nothing refills this rule any more.
    for (const member of members) {
      for (const { connection } of KEYS) {
        expect(await member.call('check', { connection }, 20)).toMatchObject({
          outcome: 'delay',
          delaySeconds: Infinity,
          rule: 'messages',
        });
      }
      const { rules: counts } = (await member.call('getStats')) as RuleStats;
      expect(Object.keys(counts)).toEqual(['messages', 'everybody']);
    }
    // One that joins later may have the rules of before or those of now.
    for (const options of [{}, { rules }]) {
      const late = await join(Member.process(), options);
      expect(await late.call('check', { connection: 'a' }, 20)).toMatchObject({ rule: 'messages' });
    }
  });
});

describe.runIf(TESTS_NATIVE)('A RuleLimiter with a shared table', () => {
  test('keeps its bans, and waits for nobody, while processes are killed', async () => {
    name = newName();
    const options = {
      maxPeers: 600,
      bans: { connection: { violations: 50, withinSeconds: 60, seconds: 1 } },
    };
    const watcher = await join(Member.process(), options);
    const banned = Array.from({ length: 20 }, (_, n) => `banned-${n}`);
    for (const key of banned) expect(await watcher.call('ban', 'account', key, 1e6)).toBe(true);
    const startLoad = async () => {
      const member = await join(Member.process(), options);
      await member.load(['check', 'check', 'charge', 'refund', 'removePeer'], 2000);
      return member;
    };
    const loads = [await startLoad(), await startLoad()];
    const kills = 4;
    for (let n = 0; n < kills; n += 1) {
      const [killed] = loads.splice(0, 1) as [Member];
      await killed.end();
      loads.push(await startLoad());
      await Promise.all(loads.map((member) => member.progress()));
      // A part may be stalled for a moment on a busy machine.
      await expect
        .poll(() => watcher.call('getBans', 'account').catch(() => undefined), { timeout: 60_000 })
        .toMatchObject({ count: banned.length });
    }
    for (const key of banned) {
      expect(await watcher.call('check', { account: key })).toMatchObject({ outcome: 'banned' });
    }
    await Promise.all(loads.map((member) => member.end()));
    // Nobody changes it any more: every number agrees with what it counts.
    const { scopes } = (await watcher.call('getStats')) as RuleStats;
    const saved = (await watcher.call('snapshot')) as RuleSnapshot;
    for (const scope of ['connection', 'account']) {
      const { peers, totalViolations = 0 } = scopes[scope] ?? {};
      const found = saved.scopes.find((slice) => slice.scope === scope);
      const violations = found?.peers.reduce((sum, { violations }) => sum + violations, 0);
      expect([scope, violations]).toEqual([scope, totalViolations]);
      // A process may have ended between the insertion of a peer and the eviction of another one.
      expect(peers).toBeLessThanOrEqual(1.25 * options.maxPeers + kills + loads.length);
    }
    await watcher.call('clear');
    const cleared = (await watcher.call('getStats')) as RuleStats;
    expect(cleared.scopes['account']).toMatchObject({ peers: 0, totalViolations: 0 });
  });
});
