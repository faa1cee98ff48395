// Bad input of a RuleLimiter: a code, and words that say what is accepted. Nothing changes.

import { RuleLimiter } from 'relay-limiter';
import { describe, expect, test } from 'vitest';
import { ENGINES } from '../support/limiters.js';

const SCOPES = {
  connection: {},
  address: { kind: 'address' },
  network: { from: 'address', ipv4Subnet: 24 },
  server: { single: true },
};
const rule = (fields: object) => ({
  rules: { r: { scope: 'connection', rateLimit: 1, ...fields } },
});
const rules = (count: number, of: (i: number) => object = () => ({})) => ({
  rules: Object.fromEntries(
    Array.from({ length: count }, (_, i) => [
      `r${i}`,
      { scope: 'connection', rateLimit: 1, ...of(i) },
    ]),
  ),
});
const ban = (fields: object) => ({
  bans: { connection: { violations: 1, withinSeconds: 1, seconds: 1, ...fields } },
});

describe.each(ENGINES)('RuleLimiter on the %s engine', (engine) => {
  const create = (options: object) =>
    new RuleLimiter({ engine, scopes: SCOPES, rules: {}, ...options } as never);

  test.each<[options: object, message: RegExp]>([
    [{ scopes: {} }, /^scopes must be an object with at least one scope/],
    [{ scopes: [] }, /^scopes must be an object by names, got an array/],
    [{ scopes: { 1: {} } }, /must be a word that is neither a number/],
    [{ scopes: { constructor: {} } }, /must be a word/],
    [{ scopes: { '': {} } }, /must be a word/],
    [
      { scopes: Object.fromEntries([...'abcdefghi'].map((name) => [name, {}])) },
      /^scopes must be at most 8, got 9/,
    ],
    [{ scopes: { a: null } }, /^scopes\.a must be an object, got null/],
    [{ scopes: { a: { kind: 'ip' } } }, /^scopes\.a\.kind must be 'text' or 'address', got "ip"/],
    [{ scopes: { a: { single: 1 } } }, /^scopes\.a\.single must be true or false/],
    [{ scopes: { a: { single: true, kind: 'address' } } }, /^scopes\.a\.single must be false/],
    [{ scopes: { a: { ipv4Subnet: 24 } } }, /^scopes\.a\.ipv4Subnet must be absent/],
    [
      { scopes: { a: { kind: 'address', ipv4Subnet: 33 } } },
      /^scopes\.a\.ipv4Subnet must be a whole number from 1 to 32/,
    ],
    [{ scopes: { a: { from: 'b' } } }, /^scopes\.a\.from must be the name of a scope: a, got "b"/],
    [{ scopes: { a: { from: 'b' }, b: {} } }, /^scopes\.a\.from must be a scope of kind 'address'/],
    [
      { scopes: { a: { from: 'b' }, b: { from: 'a' } } },
      /^scopes\.a\.from must be a scope of kind 'address'/,
    ],
    [
      { scopes: { a: { from: 'b', ipv4Subnet: 32 }, b: { kind: 'address', ipv4Subnet: 24 } } },
      /^scopes\.a\.ipv4Subnet must be at most that of "b", 24/,
    ],
    [{ scopes: { a: { size: 1 } } }, /^scopes\.a must have no other fields than .*, got "size"/],
    [{ rules: undefined }, /^rules must be an object by names, got undefined/],
    [
      rule({ scope: 'nobody' }),
      /^rules\.r\.scope must be the name of a scope: connection, address, network, server, got "nobody"/,
    ],
    [
      rule({ quota: 5, windowSeconds: 1 }),
      /^rules\.r must have either rateLimit or both quota and windowSeconds, got rateLimit, quota, windowSeconds/,
    ],
    [rule({ rateLimit: undefined }), /^rules\.r must have either .*, got none of them/],
    [rule({ rateLimit: undefined, quota: 5 }), /^rules\.r must have either .*, got quota/],
    [rule({ rateLimit: undefined, windowSeconds: 5 }), /got windowSeconds/],
    [rule({ rateLimit: 0 }), /^rules\.r\.rateLimit must be a finite number greater than 0, got 0/],
    [rule({ rateLimit: null }), /^rules\.r\.rateLimit must be .*, got null/],
    [rule({ rateLimit: '5' }), /^rules\.r\.rateLimit must be .*, got "5"/],
    [
      rule({ burstLimit: 0.5 }),
      /^rules\.r\.burstLimit must be a finite number of at least 1, got 0\.5/,
    ],
    [
      rule({ rateLimit: undefined, quota: 1, windowSeconds: Infinity }),
      /windowSeconds must be .*, got Infinity/,
    ],
    [
      rule({ rateLimit: undefined, quota: 1e308, windowSeconds: 1e-308 }),
      /windowSeconds must be of a size/,
    ],
    [rule({ warnBelow: 1.5 }), /^rules\.r\.warnBelow must be a number from 0 to 1/],
    [
      rule({ action: [] }),
      /^rules\.r\.action must be a string, or an array of at least one string/,
    ],
    [rule({ action: ['a', 1] }), /^rules\.r\.action must be/],
    [rule({ unit: 1 }), /^rules\.r\.unit must be a string/],
    [rule({ unit: 'toString' }), /^rules\.r\.unit must be a word/],
    [rule({ dryRun: 'yes' }), /^rules\.r\.dryRun must be true or false/],
    [rule({ violation: 1 }), /^rules\.r\.violation must be true or false/],
    [rule({ limit: 1 }), /^rules\.r must have no other fields than/],
    [
      { rules: { 'per minute': { scope: 'connection' } } },
      /^rules\["per minute"\] must have either/,
    ],
    [rules(14), /^rules of the scope "connection" must be at most 13, got 14/],
    [rules(9, (i) => ({ unit: `u${i}` })), /^units of rules must be at most 8, got 9/],
    [
      { ...rules(1), plans: { paid: { other: null } } },
      /^a name in plans\.paid must be that of a rule: r0, got "other"/,
    ],
    [{ ...rules(1), plans: { paid: { r0: 5 } } }, /^plans\.paid\.r0 must be an object, got 5/],
    [
      { ...rules(1), plans: { paid: { r0: { dryRun: true } } } },
      /^plans\.paid\.r0 must have no other fields/,
    ],
    [{ ...rules(1), plans: { paid: { r0: { quota: 5 } } } }, /^plans\.paid\.r0 must have either/],
    [
      { plans: Object.fromEntries(Array.from({ length: 256 }, (_, i) => [`p${i}`, {}])) },
      /^plans must be at most 255, got 256/,
    ],
    [ban({ violations: 0 }), /^bans\.connection\.violations must be a finite number of at least 1/],
    [ban({ withinSeconds: Infinity }), /^bans\.connection\.withinSeconds must be/],
    [ban({ seconds: -1 }), /^bans\.connection\.seconds must be a number of seconds greater than 0/],
    [ban({ seconds: [] }), /^bans\.connection\.seconds must be/],
    [ban({ seconds: [60, Number.NaN] }), /^bans\.connection\.seconds must be/],
    [ban({ jitter: 1 }), /^bans\.connection\.jitter must be at least 0 and below 1, got 1/],
    [
      ban({ forgetAfterSeconds: 0 }),
      /^bans\.connection\.forgetAfterSeconds must be greater than 0/,
    ],
    [
      { bans: { server: { violations: 1, withinSeconds: 1, seconds: 1 } } },
      /^a name in bans must be that of a scope with keys: connection, address, network, got "server"/,
    ],
    [{ bans: { nobody: {} } }, /^a name in bans must be .*, got "nobody"/],
    [{ allow: { server: [] } }, /^a name in allow must be that of a scope with keys/],
    [{ deny: { connection: 'a' } }, /^deny\.connection must be an array of strings/],
    [{ deny: { connection: [1] } }, /^deny\.connection\[0\] must be a string, got 1/],
    [
      { deny: { address: ['10.0.0.0/8', 'all'] } },
      /^deny\.address\[1\] must be an IP address, or a network .*, got "all"/,
    ],
    [{ deny: { network: ['::/0'] } }, /^deny\.network\[0\] must be .*at least 1 bit, got "::\/0"/],
    [{ random: 1 }, /^random must be a function/],
    [{ maxPeers: 0 }, /^maxPeers must be/],
    [{ quota: 5 }, /^unknown option "quota" of RuleLimiter/],
  ])('refuses the options %j', (options, message) => {
    expect(() => create(options)).toThrow(
      expect.objectContaining({
        code: 'ERR_LIMITER_OPTION',
        message: expect.stringMatching(message),
      }),
    );
  });

  test('takes its limits in full', () => {
    const names = [...'abcdefgh'];
    const limits = new RuleLimiter({
      engine,
      scopes: Object.fromEntries(names.map((name) => [name, {}])),
      rules: Object.fromEntries(
        names.flatMap((scope, s) =>
          Array.from({ length: 13 }, (_, i) => [
            `${scope} ${i}`,
            { scope, rateLimit: 1, burstLimit: 2, unit: `u${s}`, action: `act ${i}` },
          ]),
        ),
      ),
      plans: Object.fromEntries(Array.from({ length: 255 }, (_, i) => [`p${i}`, { 'h 12': null }])),
    });
    const keys = Object.fromEntries(names.map((name) => [name, 'k']));
    const cost = { u7: 2 };
    expect(limits.check(keys, cost, 'act 12').outcome).toBe('allow');
    expect(limits.check(keys, cost, 'act 12').rule).toBe('h 12');
    expect(limits.check(keys, cost, 'act 12', 'p254').outcome).toBe('allow');
    expect(limits.open(keys).check(cost, 'act 12').rule).toBe('h 12');
  });

  const limits = () =>
    create({
      rules: {
        messages: { scope: 'connection', rateLimit: 1 },
        bytes: { scope: 'address', unit: 'bytes', rateLimit: 1 },
      },
      plans: { paid: {} },
    });

  test.each<[what: string, code: string, call: (limits: RuleLimiter) => unknown]>([
    ['a string where two scopes need keys', 'ERR_LIMITER_KEY', (l) => l.check('c')],
    ['no keys', 'ERR_LIMITER_KEY', (l) => l.check(undefined as never)],
    ['keys that are an array', 'ERR_LIMITER_KEY', (l) => l.check(['c'] as never)],
    ['a revoked proxy', 'ERR_LIMITER_KEY', (l) => l.check(revoked())],
    ['an unknown scope', 'ERR_LIMITER_KEY', (l) => l.check({ conection: 'c' })],
    ['a key that is a number', 'ERR_LIMITER_KEY', (l) => l.check({ connection: 1 as never })],
    ['a key for a derived scope', 'ERR_LIMITER_KEY', (l) => l.check({ network: '192.0.2.0/24' })],
    ['a key for a single scope', 'ERR_LIMITER_KEY', (l) => l.check({ server: 'x' })],
    ['an address that is none', 'ERR_LIMITER_KEY', (l) => l.check({ address: 'localhost' })],
    ['open with a wrong key', 'ERR_LIMITER_KEY', (l) => l.open({ server: 'x' })],
    ['a negative cost', 'ERR_LIMITER_COST', (l) => l.check({ connection: 'c' }, -1)],
    ['an infinite cost', 'ERR_LIMITER_COST', (l) => l.check({ connection: 'c' }, Infinity)],
    [
      'a cost that is NaN',
      'ERR_LIMITER_COST',
      (l) => l.check({ connection: 'c' }, { bytes: Number.NaN }),
    ],
    ['a cost that is text', 'ERR_LIMITER_COST', (l) => l.check({ connection: 'c' }, '1' as never)],
    [
      'a cost of a unit that is null',
      'ERR_LIMITER_COST',
      (l) => l.check({ connection: 'c' }, { bytes: null as never }),
    ],
    [
      'a cost of a unit that is text',
      'ERR_LIMITER_COST',
      (l) => l.open({ connection: 'c' }).check({ bytes: '5' as never }),
    ],
    ['an address of 0 bits', 'ERR_LIMITER_KEY', (l) => l.check({ address: '::/0' })],
    ['a ban of all IPv4', 'ERR_LIMITER_KEY', (l) => l.ban('address', '::ffff:0.0.0.0/96', 1)],
    ['a refund of less than 0', 'ERR_LIMITER_COST', (l) => l.refund({ connection: 'c' }, -1)],
    ['a charge in an unknown scope', 'ERR_LIMITER_KEY', (l) => l.charge({ x: 'c' })],
    [
      'a charge of an unknown plan',
      'ERR_LIMITER_OPTION',
      (l) => l.charge({ connection: 'c' }, 1, undefined, 'free'),
    ],
    [
      'a peek at an infinite cost',
      'ERR_LIMITER_COST',
      (l) => l.peek({ connection: 'c' }, Infinity),
    ],
    ['an unban in an unknown scope', 'ERR_LIMITER_KEY', (l) => l.unban('x', 'y')],
    [
      'an update with a network of 0 bits',
      'ERR_LIMITER_OPTION',
      (l) => l.update({ allow: { address: ['0.0.0.0/0'] } }),
    ],
    [
      'an update without a rule that a plan names',
      'ERR_LIMITER_OPTION',
      (l) => l.update({ rules: {}, plans: { paid: { messages: null } } }),
    ],
    ['an unknown unit', 'ERR_LIMITER_COST', (l) => l.check({ connection: 'c' }, { bites: 1 })],
    [
      'an action that is a number',
      'ERR_LIMITER_OPTION',
      (l) => l.check({ connection: 'c' }, 1, 5 as never),
    ],
    [
      'an unknown plan',
      'ERR_LIMITER_OPTION',
      (l) => l.check({ connection: 'c' }, 1, undefined, 'free'),
    ],
    ['open with an unknown plan', 'ERR_LIMITER_OPTION', (l) => l.open({ connection: 'c' }, 'free')],
    [
      'assign with an unknown plan',
      'ERR_LIMITER_OPTION',
      (l) => l.open({ connection: 'c' }).assign({}, 'free'),
    ],
    [
      'assign with an unknown scope',
      'ERR_LIMITER_KEY',
      (l) => l.open({ connection: 'c' }).assign({ x: 'y' }),
    ],
    ['a ban of an unknown scope', 'ERR_LIMITER_KEY', (l) => l.ban('x', 'y', 1)],
    ['a ban of a single scope', 'ERR_LIMITER_OPTION', (l) => l.ban('server', 'y', 1)],
    ['a ban of negative length', 'ERR_LIMITER_OPTION', (l) => l.ban('connection', 'y', -1)],
    ['a ban of no length', 'ERR_LIMITER_OPTION', (l) => l.ban('connection', 'y', Number.NaN)],
    ['a ban without a length and a policy', 'ERR_LIMITER_OPTION', (l) => l.ban('connection', 'y')],
    ['a ban of a key that is no address', 'ERR_LIMITER_KEY', (l) => l.ban('network', 'y', 1)],
    ['bans of an unknown scope', 'ERR_LIMITER_KEY', (l) => l.getBans('x')],
    ['a negative number of bans', 'ERR_LIMITER_OPTION', (l) => l.getBans('connection', -1)],
    ['an unknown section', 'ERR_LIMITER_OPTION', (l) => l.update({ scopes: {} } as never)],
    ['removal in an unknown scope', 'ERR_LIMITER_KEY', (l) => l.removePeer({ x: 'y' })],
    ['an age that is NaN', 'ERR_LIMITER_OPTION', (l) => l.cleanup(Number.NaN)],
    ['a snapshot that is none', 'ERR_LIMITER_SNAPSHOT', (l) => l.restore({})],
    [
      'a snapshot of another limiter',
      'ERR_LIMITER_SNAPSHOT',
      (l) => l.restore({ format: 2, limiter: 'RateLimiter', peers: [], digests: [] }),
    ],
    [
      'a snapshot with an invalid state of a single scope',
      'ERR_LIMITER_SNAPSHOT',
      (l) => l.restore(sliceOf({ idleSeconds: -1, used: {} })),
    ],
    [
      'a snapshot with invalid tokens of a single scope',
      'ERR_LIMITER_SNAPSHOT',
      (l) => l.restore(sliceOf({ idleSeconds: 1, used: { r: -1 } })),
    ],
  ])('refuses %s with a code', (_, code, call) => {
    const limiter = limits();
    const before = JSON.stringify(limiter.getStats());
    expect(() => call(limiter)).toThrow(expect.objectContaining({ code }));
    expect(JSON.stringify(limiter.getStats())).toBe(before);
  });

  test('refuses a clock that returns no number, and changes nothing', () => {
    let now = 0;
    const limiter = create({
      clock: () => now,
      rules: { r: { scope: 'connection', rateLimit: 1 } },
    });
    now = Number.NaN;
    for (const call of [
      () => limiter.check({ connection: 'c' }),
      () => limiter.update({ rules: {} }),
      () => limiter.ban('connection', 'c', 1),
    ]) {
      expect(call).toThrow(expect.objectContaining({ code: 'ERR_LIMITER_CLOCK' }));
    }
    now = 1;
    expect(limiter.peek({ connection: 'c' }).rules).toHaveLength(1);
    expect(limiter.getBans('connection').count).toBe(0);
  });
});

/** A slice of a single scope. */
function sliceOf(single: object): object {
  const slice = { format: 2, limiter: 'RuleLimiter', scope: 'server' };
  return { ...slice, peers: [], digests: [], single };
}

function revoked(): never {
  const { proxy, revoke } = Proxy.revocable({}, {});
  revoke();
  return proxy as never;
}
