// A RuleLimiter with a shared table: several limiters of one process, which find in the file what the others have done.

import { openSync, readFileSync, writeSync } from 'node:fs';
import { type RuleBan, RuleLimiter, type RuleLimiterOptions, removeShared } from 'relay-limiter';
import { describe, expect, onTestFinished, test } from 'vitest';
import { sharedCommand } from '../../dist/cli/shared.js';
import { loadNative } from '../../dist/engine/native.js';
import { buildPlan } from '../rules/plans.js';
import { codeOf, TESTS_NATIVE } from '../support/limiters.js';
import { newName } from './support/members.js';

const SLOW = 1e-9;

/** Rules that nothing refills while a test runs. */
const OPTIONS = {
  scopes: { connection: {}, address: { kind: 'address' }, server: { single: true } },
  rules: {
    messages: { scope: 'connection', rateLimit: SLOW, burstLimit: 3 },
    requests: { scope: 'address', rateLimit: SLOW, burstLimit: 5 },
    everybody: { scope: 'server', rateLimit: SLOW, burstLimit: 100 },
  },
  bans: { address: { violations: 1.5, withinSeconds: 1e6, seconds: [600, Infinity] } },
  maxPeers: 1000,
} as const satisfies RuleLimiterOptions;

const PAID = { paid: { messages: { rateLimit: SLOW, burstLimit: 30 } } };
const KEYS = { connection: 'c1', address: '192.0.2.7' };

/** Creates limiters that share one table, until the test ends. */
function table(): (options?: Partial<RuleLimiterOptions>) => RuleLimiter {
  const shared = newName();
  onTestFinished(() => {
    removeShared(shared);
  });
  return (options = {}) => {
    const limiter = new RuleLimiter({ ...OPTIONS, ...options, shared });
    onTestFinished(() => {
      limiter.close();
      limiter.close();
    });
    return limiter;
  };
}

const left = (limiter: RuleLimiter, rule: string, keys: object = KEYS, plan?: string) =>
  limiter.peek({ ...keys }, 1, undefined, plan).rules.find((state) => state.rule === rule)
    ?.remaining;

describe.runIf(TESTS_NATIVE)('RuleLimiters with one shared table', () => {
  test('take from the same buckets, by keys and opened', () => {
    const open = table();
    const [first, second] = [open(), open()];
    const peer = second.open(KEYS);
    expect(first.check(KEYS).outcome).toBe('allow');
    expect(peer.check().outcome).toBe('allow');
    expect(second.check({ ...KEYS, connection: 'c2' }).outcome).toBe('allow');
    expect(first.check(KEYS).outcome).toBe('allow');
    for (const check of [() => first.check(KEYS), () => peer.check()]) {
      expect(check()).toMatchObject({ outcome: 'delay', rule: 'messages', scope: 'connection' });
    }
    expect(left(first, 'requests')).toBeCloseTo(1);
    expect(left(second, 'everybody')).toBeCloseTo(96);
    first.refund(KEYS);
    expect(left(second, 'messages')).toBeCloseTo(1);
    second.charge(KEYS, 9);
    expect(left(first, 'requests')).toBeCloseTo(-7);
    expect(first.shared).toMatchObject({ attached: 2, detached: false });
  });

  test('know a plan and a unit that another one has just added, in every call', () => {
    const calls: [name: string, call: (limiter: RuleLimiter) => unknown][] = [
      ['check', (limiter) => limiter.check(KEYS, { rows: 2 }, undefined, 'paid').outcome],
      ['peek', (limiter) => limiter.peek(KEYS, { rows: 2 }, undefined, 'paid').verdict.outcome],
      ['refund', (limiter) => limiter.refund(KEYS, { rows: 2 }, undefined, 'paid')],
      ['charge', (limiter) => limiter.charge(KEYS, { rows: 2 }, undefined, 'paid')],
      ['open', (limiter) => limiter.open(KEYS, 'paid').plan],
    ];
    const results = calls.map(([name, call]) => {
      const open = table();
      const [first, second] = [open(), open()];
      const opened = second.open(KEYS);
      first.update({
        rules: { ...OPTIONS.rules, rows: { scope: 'connection', unit: 'rows', rateLimit: 1 } },
        plans: { paid: { messages: null } },
      });
      const result = call(second);
      opened.assign({}, 'paid');
      expect(opened.check({ rows: 1 }).outcome).toBe('allow');
      expect(codeOf(() => second.check(KEYS, { lines: 1 }))).toBe('ERR_LIMITER_COST');
      expect(codeOf(() => second.open(KEYS, 'gold'))).toBe('ERR_LIMITER_OPTION');
      return [name, result];
    });
    expect(Object.fromEntries(results)).toEqual({
      ...{ check: 'allow', peek: 'allow', refund: undefined, charge: undefined, open: 'paid' },
    });
  });

  test('know a unit that another one has just added, in a check of an opened peer', () => {
    const open = table();
    const [first, second] = [open(), open()];
    const opened = second.open(KEYS);
    const assigned = second.open(KEYS);
    const rows = { scope: 'connection', unit: 'rows', rateLimit: 1 } as const;
    first.update({ rules: { ...OPTIONS.rules, rows } });
    expect(opened.check({ rows: 1 }).outcome).toBe('allow');
    first.update({ plans: { paid: { messages: null } } });
    assigned.assign({}, 'paid');
    expect(assigned.plan).toBe('paid');
  });

  test('use the ban ladder, the lists and the plans that another one has just changed', () => {
    const bans = { address: { violations: 2, withinSeconds: 60, seconds: [5] } };
    const open = table();
    const [first, second] = [open({ plans: PAID }), open({ plans: PAID })];
    first.update({ bans });
    second.ban('address', KEYS.address);
    expect(first.banSecondsLeft('address', KEYS.address)).toBeCloseTo(5, 0);
    first.update({ allow: { connection: ['c2'] } });
    first.update({ allow: {} });
    second.check(KEYS);
    first.update({ allow: { connection: ['c2'] } });
    second.check({ connection: 'c2' });
    first.update({ allow: {} });
    second.charge({ connection: 'c2' }, 2);
    expect(left(first, 'messages', { connection: 'c2' })).toBeCloseTo(1);
    const peer = second.open({ connection: 'c3' }, 'paid');
    first.update({ plans: {} });
    expect(peer.peek().rules.find(({ rule }) => rule === 'messages')?.limit).toBe(3);
    first.update({ plans: PAID });
    peer.charge(1);
    expect(left(first, 'messages', { connection: 'c3' }, 'paid')).toBeCloseTo(29);
  });

  test('differ by the end of a long list, and agree on lists in another order', () => {
    const keys = Array.from({ length: 20 }, (_, n) => `somebody ${n}`);
    const open = table();
    open({ deny: { connection: keys } });
    expect(() => open({ deny: { connection: [...keys].reverse() } })).not.toThrow();
    expect(() => open({ deny: { connection: [...keys, 'zoe'] } })).toThrow(/"zoe"/);
  });

  test('report a ban where it begins, and see and end those of each other', () => {
    const open = table();
    const bans: [number, RuleBan][] = [];
    const [first, second] = [0, 1].map((n) => open({ onBan: (ban) => bans.push([n, ban]) })) as [
      RuleLimiter,
      RuleLimiter,
    ];
    const flood = (limiter: RuleLimiter) => limiter.check({ address: KEYS.address }, 6);
    flood(first);
    expect(flood(second)).toMatchObject({ outcome: 'banned', rule: 'requests', delaySeconds: 600 });
    expect(bans).toMatchObject([[1, { scope: 'address', key: KEYS.address, violations: 2 }]]);
    expect(first.check(KEYS)).toMatchObject({ outcome: 'banned', rule: null, scope: 'address' });
    expect(first.getBans('address')).toMatchObject({ count: 1, bans: [[KEYS.address, {}]] });
    expect(first.ban('connection', 'c9', Infinity)).toBe(true);
    expect(second.banSecondsLeft('connection', 'c9')).toBe(Infinity);
    expect(second.unban('connection', 'c9')).toBe(true);
    expect(first.unban('address', KEYS.address)).toBe(true);
    expect(second.check(KEYS).outcome).toBe('allow');
    // The ladder is in the table, too.
    flood(first);
    expect(flood(first)).toMatchObject({ outcome: 'banned', delaySeconds: Infinity });
    second.removePeer({ address: KEYS.address });
    expect(first.check(KEYS).outcome).toBe('allow');
  });

  test('count for all of them', () => {
    const open = table();
    const allow = { address: ['10.0.0.0/8'] };
    const [first, second] = [open({ allow }), open({ allow })];
    expect(second.check({ address: '10.1.2.3' }).outcome).toBe('allow');
    for (const limiter of [first, second]) limiter.check(KEYS, 4);
    second.check(KEYS);
    for (const { outcomes, rules, scopes } of [first.getStats(), second.getStats()]) {
      expect(outcomes).toEqual({ allow: 2, delay: 2, banned: 0, denied: 0 });
      expect(rules['messages']).toMatchObject({ checked: 3, refused: 2 });
      expect(rules['everybody']).toMatchObject({ checked: 3, refused: 0 });
      expect(scopes['connection']).toMatchObject({ peers: 1, totalViolations: 2 });
      expect(scopes['connection']?.violators).toEqual([['c1', 2]]);
    }
    // One that joins now has the same counts.
    expect(open({ allow }).getStats()).toEqual(first.getStats());
    expect(first.scope('connection').getOverview()).toEqual(
      second.scope('connection').getOverview(),
    );
  });

  test('have one snapshot, cleanup and end', () => {
    const open = table();
    const [first, second] = [open(), open()];
    first.check(KEYS, 2);
    second.check(KEYS, 4);
    const saved = JSON.parse(JSON.stringify(second.snapshot()));
    expect(saved.scopes).toMatchObject([
      { scope: 'connection', peers: [{ key: 'c1', violations: 1 }] },
      { scope: 'address', peers: [{ key: KEYS.address, violations: 1 }] },
      { scope: 'server', single: {} },
    ]);
    expect(first.snapshot().scopes).toHaveLength(3);
    second.clear();
    expect(first.getStats().scopes['connection']?.peers).toBe(0);
    expect(left(first, 'everybody')).toBe(100);
    expect(first.restore(saved)).toBe(2);
    expect(left(second, 'messages')).toBeCloseTo(1);
    expect(left(second, 'requests')).toBeCloseTo(3);
    expect(left(second, 'everybody')).toBeCloseTo(98);
    expect(second.cleanup(0)).toBe(0);
    second.refund(KEYS, 2);
    expect(second.cleanup(-1)).toBeGreaterThanOrEqual(1);
    first.close();
    expect(first.check(KEYS).outcome).toBe('allow');
    first.close();
    expect(codeOf(() => first.check(KEYS))).toBe('ERR_LIMITER_SHARED');
    expect(codeOf(() => first.getStats())).toBe('ERR_LIMITER_SHARED');
    expect(first.shared).toMatchObject({ attached: 0, detached: true });
    expect(second.shared).toMatchObject({ attached: 1 });
  });

  test('put a newcomer in the place of another peer of a full table', () => {
    const open = table();
    const [first, second] = [open({ maxPeers: 20 }), open({ maxPeers: 20 })];
    for (let n = 0; n < 100; n += 1) {
      expect((n % 2 === 0 ? first : second).check({ connection: `c${n}` }).outcome).toBe('allow');
    }
    const { peers, evictions } = first.getStats().scopes['connection'] ?? {};
    expect([peers, evictions]).toEqual([20, 80]);
  });

  test('are shown on the command line with the rules in force', () => {
    const open = table();
    const limiter = open();
    const path = limiter.shared?.path as string;
    limiter.update({
      rules: {
        ...OPTIONS.rules,
        trial: { scope: 'address', quota: 9, windowSeconds: 60, dryRun: true },
      },
      plans: { paid: { messages: null } },
    });
    limiter.check(KEYS, 6);
    limiter.ban('connection', 'c2\x1b', 600);
    const text = sharedCommand([path]) as string;
    expect(text).toContain(
      '"trial" {"scope":"address","quota":9,"windowSeconds":60,"dryRun":true}\n            plans "paid"',
    );
    expect(text).toMatch(
      /^scope +"connection"\npeers +2 of 1,000: 0\.2%\nviolations +1\n +1 {2}"c1"$/m,
    );
    expect(text).toMatch(/^bans +1\n +\d{3} s {2}"c2\\u001b"$/m);
    expect(JSON.parse(sharedCommand([path, '--json']) as string)).toMatchObject({
      limiter: 'RuleLimiter',
      config: { maxPeers: 1000 },
      peers: 3,
      rules: { rules: { trial: { quota: 9 } }, plans: { paid: { messages: null } } },
      scopes: { address: { peers: 1, totalViolations: 1 }, connection: { bans: { count: 1 } } },
    });
    // It has joined for a moment only.
    expect(limiter.shared?.attached).toBe(1);
    expect(limiter.getStats().outcomes).toMatchObject({ delay: 1 });
  });
});

describe.runIf(TESTS_NATIVE)('An update of a RuleLimiter with a shared table', () => {
  const doubled = {
    ...OPTIONS.rules,
    messages: { ...OPTIONS.rules.messages, burstLimit: 6 },
    requests: { ...OPTIONS.rules.requests, burstLimit: 50 },
    lookups: { scope: 'connection', action: 'lookup', rateLimit: SLOW, burstLimit: 2 },
  };

  test('is in force for all of them, whatever they call next', () => {
    const calls: [string, (limiter: RuleLimiter) => unknown, unknown][] = [
      ['check', (limiter) => limiter.check(KEYS, 2).outcome, 'allow'],
      ['peek', (limiter) => limiter.peek(KEYS, 2).verdict.outcome, 'allow'],
      ['getStats', (limiter) => Object.keys(limiter.getStats().rules), Object.keys(doubled)],
      ['refund', (limiter) => limiter.refund(KEYS, 1, 'lookup'), undefined],
      ['charge', (limiter) => limiter.charge(KEYS, 1, 'lookup'), undefined],
      ['ban', (limiter) => limiter.ban('address', '192.0.2.8'), true],
      ['cleanup', (limiter) => limiter.cleanup(), 0],
      ['snapshot', (limiter) => limiter.snapshot().scopes.length, 3],
      ['update', (limiter) => limiter.update({ deny: { connection: ['c3'] } }), undefined],
    ];
    for (const [name, call, result] of calls) {
      const open = table();
      const [first, second] = [open(), open()];
      const peer = first.open(KEYS);
      expect([first.check(KEYS, 2).outcome, peer.check().outcome]).toEqual(['allow', 'allow']);
      second.update({ rules: doubled });
      expect([name, call(first)]).toEqual([name, result]);
      expect([name, first.check(KEYS, 5).outcome]).toEqual([name, 'delay']);
      expect([name, peer.check(1, 'lookup').outcome]).toEqual([name, 'allow']);
    }
  });

  test('keeps what is used, and is known to those that join later', () => {
    const open = table();
    const [first, second] = [open(), open()];
    first.check(KEYS, 3);
    second.update({ rules: doubled, plans: { paid: { messages: { burstLimit: 60 } } } });
    const other = { ...OPTIONS, rules: doubled, plans: { paid: { messages: { burstLimit: 60 } } } };
    // One with the rules that the file was created with, and one with the current ones.
    for (const late of [open(), open(other)]) {
      expect(left(late, 'messages')).toBeCloseTo(3);
      expect(left(late, 'messages', KEYS, 'paid')).toBeCloseTo(57);
      expect(late.check(KEYS, 1, 'lookup').outcome).toBe('allow');
      late.refund(KEYS, 1, 'lookup');
    }
    first.update({ rules: OPTIONS.rules });
    expect(left(second, 'messages')).toBeCloseTo(0);
    expect(codeOf(() => open(other))).toBe('ERR_LIMITER_SHARED');
  });

  test('does not change the refill of the time before it, also for those that join later', () => {
    const open = table();
    const rules = (rateLimit: number) => ({
      messages: { scope: 'connection', rateLimit, burstLimit: 1e9 },
    });
    const fast = { rules: rules(1e12), bans: {} };
    const first = open(fast);
    first.charge(KEYS, 1e15);
    // Enough of it is refilled by now, at the rate of before.
    const wait = performance.now() + 5;
    while (performance.now() < wait);
    open(fast).update({ rules: rules(SLOW) });
    const late = open(fast);
    const remaining = left(late, 'messages', { connection: 'c1' }) as number;
    expect(remaining).toBeGreaterThan(1e9 - 1e15);
    expect(left(first, 'messages', { connection: 'c1' })).toBeCloseTo(remaining);
  });

  test('gives a slot to another rule, which begins with nothing used', () => {
    const open = table();
    const [first, second] = [open(), open()];
    // The records of the scope have room for five rules.
    for (let round = 0; round < 12; round += 1) {
      const name = `round ${round}`;
      const limiter = round % 2 === 0 ? first : second;
      limiter.update({
        rules: {
          ...OPTIONS.rules,
          [name]: { scope: 'connection', rateLimit: SLOW, burstLimit: 2 },
        },
      });
      expect(left(first, name)).toBe(2);
      first.refund(KEYS, 1);
      second.charge(KEYS, 1);
      expect(left(second, name)).toBeCloseTo(1);
      expect(left(open(), name)).toBeCloseTo(1);
    }
    expect(left(first, 'messages')).toBeCloseTo(2);
    const { verdicts } = first.scope('connection').getOverview();
    expect(verdicts).toEqual({ allow: 0, delay: 0, disconnect: 0 });
  });

  test('adds no more rules than the records have room for', () => {
    const open = table();
    const [first, second] = [open(), open()];
    const rules = (count: number) =>
      Object.fromEntries(
        Array.from({ length: count }, (_, n) => [
          `rule ${n}`,
          { scope: 'connection', rateLimit: 1 },
        ]),
      );
    first.update({ rules: rules(5) });
    expect(() => second.update({ rules: rules(6) })).toThrow(
      'rules of the scope "connection" in this shared table must be at most 5, got 6',
    );
    expect(codeOf(() => second.update({ rules: rules(6) }))).toBe('ERR_LIMITER_OPTION');
    expect(Object.keys(second.getStats().rules)).toHaveLength(5);
  });

  test('of lists is in force at once, too', () => {
    const open = table();
    const [first, second] = [open(), open()];
    second.update({ allow: { address: ['192.0.2.0/24'] } });
    for (let n = 0; n < 9; n += 1) expect(first.check(KEYS).outcome).toBe('allow');
    expect(left(first, 'messages')).toBe(3);
    const peer = first.open(KEYS);
    expect(peer.check().outcome).toBe('allow');
    // A list decides without the table.
    second.update({ allow: {}, deny: { connection: ['c1'] } });
    expect(peer.check()).toMatchObject({ outcome: 'denied', scope: 'connection' });
    second.update({ deny: {} });
    expect(first.check(KEYS, 3).outcome).toBe('allow');
    expect(peer.check()).toMatchObject({ outcome: 'delay', rule: 'messages' });
    expect(open().getStats().outcomes).toEqual({ allow: 11, delay: 1, banned: 0, denied: 1 });
  });

  test('must not be larger than a mebibyte', () => {
    const first = table()();
    const connection = Array.from({ length: 3000 }, (_, n) => `${n}`.padStart(400, '-'));
    expect(() => first.update({ deny: { connection } })).toThrow(
      /^the rules of a shared table must be at most 1048576 bytes as text, got 12\d{5}$/,
    );
    expect(first.check({ connection: connection[0] as string }).outcome).toBe('allow');
  });
});

describe.runIf(TESTS_NATIVE)('A RuleLimiter that joins a shared table', () => {
  test.each<[string, Partial<RuleLimiterOptions>, string]>([
    [
      'numbers of a rule',
      { rules: { ...OPTIONS.rules, requests: { ...OPTIONS.rules.requests, burstLimit: 7 } } },
      'its rules.requests.burstLimit is 5, not 7',
    ],
    [
      'rules',
      { rules: { ...OPTIONS.rules, more: { scope: 'server', rateLimit: 1 } } },
      'its rules.more is absent, not {"scope":"server","unit":"requests","rateLimit":1,"dryRun":false,"violation":true}',
    ],
    [
      'order of rules',
      { rules: Object.fromEntries(Object.entries(OPTIONS.rules).reverse()) },
      'its order of rules is messages, requests, everybody, not everybody, requests, messages',
    ],
    [
      'plans',
      { plans: { paid: { messages: null } } },
      'its plans.paid is absent, not {"messages":null}',
    ],
    [
      'bans',
      { bans: { address: { ...OPTIONS.bans.address, seconds: [600, 900] } } },
      'its bans.address.seconds is [600,"Infinity"], not [600,900]',
    ],
    [
      'lists',
      { deny: { address: ['192.0.2.1'] } },
      'its deny.address is absent, not ["192.0.2.1"]',
    ],
    [
      'scopes',
      { scopes: { ...OPTIONS.scopes, address: { kind: 'address', ipv6Subnet: 56 } } },
      'its scopes.address.ipv6Subnet is 64, not 56',
    ],
    ['maxPeers', { maxPeers: 500 }, 'it was created with maxPeers 1000, not 500'],
  ])('is told which %s differ, and both values', (_, options, difference) => {
    const open = table();
    const first = open();
    const message = `the shared file ${first.shared?.path} cannot be used: ${difference}`;
    expect(() => open(options)).toThrow(message);
    expect(codeOf(() => open(options))).toBe('ERR_LIMITER_SHARED');
    expect(first.shared).toMatchObject({ attached: 1 });
  });

  test('refuses a text that is no rules, and one that is damaged', () => {
    const open = table();
    const first = open();
    const path = first.shared?.path as string;
    const at = readFileSync(path).indexOf('"burstLimit":3');
    expect(at).toBeGreaterThan(0);
    writeSync(openSync(path, 'r+'), '4', at + '"burstLimit":'.length);
    expect(() => open()).toThrow(`the shared file ${path} cannot be used: its rules are damaged`);
    expect(codeOf(() => open())).toBe('ERR_LIMITER_SHARED');
    // Those that have them go on.
    expect(first.check(KEYS).outcome).toBe('allow');
  });

  test.each([
    ['no JSON', () => 'rules'],
    ['another value', () => '[]'],
    ['invalid rules', (text: string) => text.replace('"burstLimit":3', '"burstLimit":0')],
    ['no places', (text: string) => text.replace(/"places".*/, '"places":{}}')],
    ['a place twice', (text: string) => text.replace('"slots":[1', '"slots":[0')],
    ['a place beyond the records', (text: string) => text.replace('"rules":[0', '"rules":[13')],
  ])('refuses a file with %s in place of its text', (_, spoil) => {
    const open = table();
    const path = open().shared?.path as string;
    const bytes = readFileSync(path);
    const begin = bytes.indexOf('{"scopes":');
    const text = bytes.subarray(begin, bytes.indexOf(0, begin)).toString();
    removeShared(path);
    // A file that is intact, but was written by another program.
    const binary = loadNative();
    if (binary.state !== 'loaded') throw new Error(binary.reason);
    const { plan } = buildPlan({
      scopes: { connection: false, address: false, server: true },
      rules: { messages: { scope: 'connection', rate: 1, burst: 1 } },
    });
    const shared = { path, scopes: JSON.stringify(JSON.parse(text).scopes), text: spoil(text) };
    const config = { maxPeers: 1000, single: [false, false, true], plan };
    const core = binary.engine.rules({ ...config, shared: { ...shared, adopt: () => {} } });
    expect(spoil(text)).not.toBe(text);
    const error = (() => {
      try {
        return open();
      } catch (thrown) {
        return thrown as Error;
      }
    })();
    expect(error).toMatchObject({ code: 'ERR_LIMITER_SHARED' });
    core.detach?.();
  });
});
