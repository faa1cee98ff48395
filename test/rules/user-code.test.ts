// Code of the user that runs during a call: getters, clocks, random numbers, listeners. Whatever it does, the call does
// what it would have done without it.

import { EventEmitter } from 'node:events';
import { type Keys, type RuleBan, RuleLimiter, type RuleLimiterOptions } from 'relay-limiter';
import { guardWebSocketServer } from 'relay-limiter/ws';
import { describe, expect, test } from 'vitest';
import { ENGINES, manualClock } from '../support/limiters.js';

const RULES = {
  requests: { scope: 'a', rateLimit: 1, burstLimit: 10 },
  bytes: { scope: 'a', unit: 'bytes', rateLimit: 1, burstLimit: 1000 },
};

describe.each(ENGINES)('RuleLimiter on the %s engine', (engine) => {
  const create = (options: Partial<RuleLimiterOptions> = {}) =>
    new RuleLimiter({
      engine,
      clock: manualClock(),
      scopes: { a: {}, b: {} },
      rules: RULES,
      ...options,
    });
  const left = (limits: RuleLimiter, keys: Keys) =>
    limits.peek(keys).rules.map(({ remaining }) => remaining);

  test('charges its own cost, whatever a getter of the cost checks', () => {
    const limits = create();
    const other = create();
    const cost = {
      bytes: 700,
      get requests() {
        other.check({ a: 'o' });
        limits.check({ a: 'inner' }, { bytes: 1 });
        return 3;
      },
    };
    limits.check({ a: 'x' }, cost);
    expect(left(limits, { a: 'x' })).toEqual([7, 300]);
    limits.open({ a: 'x' }).check(cost);
    expect(left(limits, { a: 'x' })).toEqual([7, 300]);
    expect(left(limits, { a: 'inner' })).toEqual([8, 998]);
  });

  test('checks its own keys, whatever a getter of the keys does', () => {
    const limits = create({ allow: { a: ['friend'] } });
    const keys = {
      a: 'x',
      get b() {
        limits.peek({ a: 'friend' });
        limits.check({ a: 'y' }, 2);
        return 'k';
      },
    };
    expect(limits.check(keys, 6).outcome).toBe('allow');
    expect(left(limits, { a: 'x' })[0]).toBe(4);
    expect(left(limits, { a: 'y' })[0]).toBe(8);
  });

  test('decides by the rules after an update inside a getter or a clock', () => {
    const updated = { rules: { ...RULES, requests: { ...RULES.requests, burstLimit: 2 } } };
    const limits = create();
    const cost = {
      get requests() {
        limits.update({ rules: { bytes: RULES.bytes, requests: updated.rules.requests } });
        return 3;
      },
    };
    expect(limits.check({ a: 'x' }, cost).rule).toBe('requests');
    let updates = 0;
    const clocked = create({
      clock: () => {
        if (updates++ === 1) clocked.update({ rules: {} });
        return 1000;
      },
    });
    expect(clocked.check({ a: 'x' }, 100).outcome).toBe('delay');
    expect(clocked.check({ a: 'x' }, 100).outcome).toBe('allow');
  });

  test('takes inherited keys and ignores what somebody has added to Object.prototype', () => {
    const limits = create();
    class Peer {
      get a() {
        return 'x';
      }
    }
    const keys = new Peer() as unknown as Keys;
    limits.check(keys, 4);
    expect(left(limits, { a: 'x' })[0]).toBe(6);
    expect(limits.open(keys).keys).toEqual({ a: 'x' });
    limits.removePeer(keys);
    expect(left(limits, { a: 'x' })[0]).toBe(10);
    Object.assign(Object.prototype, { polluted: 1 });
    try {
      expect(limits.check({ a: 'x' }, { bytes: 1 }).outcome).toBe('allow');
    } finally {
      Reflect.deleteProperty(Object.prototype, 'polluted');
    }
  });

  test.each([[new Map([['a', 'x']])], [new Date()], [[]], [Promise.resolve({})]])(
    'refuses %s as keys',
    (keys) => {
      for (const call of [
        () => create().check(keys as never),
        () => create().open(keys as never),
        () => create().removePeer(keys as never),
      ]) {
        expect(call).toThrow(expect.objectContaining({ code: 'ERR_LIMITER_KEY' }));
      }
    },
  );

  const BANS = {
    a: { violations: 1, withinSeconds: 1, seconds: 100, jitter: 0.5 },
    b: { violations: 1, withinSeconds: 1, seconds: 10, jitter: 0.5 },
  };
  const BOTH = {
    a: { scope: 'a', rateLimit: 1, burstLimit: 1 },
    b: { scope: 'b', rateLimit: 1, burstLimit: 1 },
  };

  test('reports all bans of a check, whatever random() and onBan do', () => {
    const bans: RuleBan[] = [];
    const draws = [0.5, 0.5, 0.75, 0.25, 0.5];
    let drawn = 0;
    const limits: RuleLimiter = create({
      rules: BOTH,
      bans: BANS,
      random() {
        if (drawn >= 2) limits.check({ a: 'other' }, 0);
        return draws[drawn++] as number;
      },
      onBan(ban) {
        bans.push(ban);
        limits.clear();
        limits.update({ allow: {} });
        limits.check({ a: 'x', b: 'y' });
      },
    });
    for (let n = 0; n < 2; n += 1) limits.check({ a: 'x', b: 'y' });
    expect(bans.map(({ scope, key, banDuration }) => [scope, key, banDuration])).toEqual([
      ['a', 'x', 100],
      ['b', 'y', 10],
    ]);
    // Once per ban, ahead: two at first, two for the next.
    expect(drawn).toBe(4);
  });

  test('slices of a snapshot name the rules of their moment', () => {
    const options = {
      rules: { old: { scope: 'a', quota: 1000, windowSeconds: 86_400 } },
    };
    const limits = create(options);
    for (let n = 0; n < 3000; n += 1) limits.check({ a: `key ${n}` }, 500);
    const slices: unknown[] = [];
    for (const slice of limits.snapshotSlices()) {
      if (slices.push(slice) === 1) {
        limits.update({ rules: { renamed: options.rules.old } });
      }
    }
    const names = JSON.stringify(slices).match(/"(old|renamed)"/g);
    expect(new Set(names).has('"renamed"') || names === null).toBe(true);
    const restored = create({ rules: { renamed: options.rules.old } });
    const steps = restored.restoreSlices(JSON.parse(JSON.stringify(slices)));
    steps.next();
    restored.update({ rules: { other: options.rules.old, renamed: options.rules.old } });
    for (const _ of steps);
    for (const { rule, remaining } of restored.peek({ a: 'key 1' }).rules) {
      if (rule === 'other') expect(remaining).toBe(1000);
    }
  });

  test('is refused by a guard that does not take it', () => {
    const server = new EventEmitter() as never;
    expect(() =>
      guardWebSocketServer(server, { connections: { limiter: create() as never } }),
    ).toThrow(expect.objectContaining({ code: 'ERR_LIMITER_OPTION' }));
  });
});
