// Every error of the contract: its class, its code, words that help, and nothing changed by it.

import { runInNewContext } from 'node:vm';
import {
  DirectConnectionRateLimiter,
  OrderbookRateLimiter,
  RateLimiter,
  TokenBucket,
} from 'relay-limiter';
import { rateLimit } from 'relay-limiter/http';
import { SharedRateLimiter } from 'relay-limiter/redis';
import { describe, expect, test } from 'vitest';
import { codeOf, ENGINES, manualClock } from './support/limiters.js';

const NAN = Number.NaN;
const LIMITERS = { RateLimiter, OrderbookRateLimiter, DirectConnectionRateLimiter };
const POSITIVE = 'a finite number greater than 0';
const NOT_NEGATIVE = 'a finite number of at least 0';
const COUNT = 'a whole number from 0 to 2^53 - 1';
const BURST = 'null or 0 (the default), or a finite number of at least 1';

const NUMBERS: [
  limiter: keyof typeof LIMITERS,
  option: string,
  accepted: string,
  bad: unknown[],
][] = [
  ['RateLimiter', 'rateLimit', POSITIVE, [0, -1]],
  ['RateLimiter', 'burstLimit', BURST, [-1, 0.5]],
  ['RateLimiter', 'disconnectThreshold', `null (never) or ${COUNT}`, [-1, 1.5, 2 ** 53]],
  ['OrderbookRateLimiter', 'rateLimit', POSITIVE, [0, -1, null]],
  ['OrderbookRateLimiter', 'interval', NOT_NEGATIVE, [-0.1, null]],
  ['OrderbookRateLimiter', 'violationBanThreshold', COUNT, [-1, 1.5, 2 ** 53, null]],
  ['OrderbookRateLimiter', 'violationWarningThreshold', COUNT, [-1, 1.5, null]],
  ['OrderbookRateLimiter', 'violationSevereThreshold', COUNT, [-1, 1.5, null]],
  ['OrderbookRateLimiter', 'banDuration', NOT_NEGATIVE, [-1, null]],
  ['DirectConnectionRateLimiter', 'messageRatePerSec', NOT_NEGATIVE, [-1, null]],
  ['DirectConnectionRateLimiter', 'messageBurst', NOT_NEGATIVE, [-1, null]],
  ['DirectConnectionRateLimiter', 'orderbookInterval', NOT_NEGATIVE, [-1, null]],
  ['DirectConnectionRateLimiter', 'orderbookBanThreshold', COUNT, [-1, 1.5, null]],
  ['DirectConnectionRateLimiter', 'banDuration', NOT_NEGATIVE, [-1, null]],
];

describe('The option', () => {
  test.each(NUMBERS)('%s.%s must be %s', (limiter, option, accepted, bad) => {
    for (const value of [NAN, Infinity, -Infinity, '10', true, 10n, {}, [1], ...bad]) {
      const create = () => new LIMITERS[limiter]({ [option]: value });
      expect(codeOf(create), String(value)).toBe('ERR_LIMITER_OPTION');
      expect(create).toThrow(typeof value === 'number' ? RangeError : TypeError);
      expect(create).toThrow(`${option} must be ${accepted}, got `);
    }
  });

  describe.each(Object.entries(LIMITERS))('of a %s', (name, Limiter) => {
    test.each([
      [{ rateLimits: 1 }, `unknown option "rateLimits" of ${name}; it takes `],
      [null, `the options of ${name} must be an object of options, got null`],
      [7, `the options of ${name} must be an object of options, got 7`],
      [[], `the options of ${name} must be an object of options, got an array`],
      [{ engine: 'rust' }, `engine must be 'auto', 'native' or 'js', got "rust"`],
      [{ engine: null }, `engine must be 'auto', 'native' or 'js', got null`],
      [{ clock: 5 }, 'clock must be a function, got 5'],
      [{ onBan: 'log' }, 'onBan must be a function, got "log"'],
      [{ maxPeers: 0 }, 'maxPeers must be a whole number from 1 to 2^53 - 1, or Infinity, got 0'],
      [{ maxPeers: 1.5 }, 'maxPeers must be '],
      [{ maxPeers: -Infinity }, 'maxPeers must be '],
      [{ maxPeers: '9' }, 'maxPeers must be '],
    ])('is rejected in %j', (options, message) => {
      const create = () => new Limiter(options as never);
      expect(codeOf(create)).toBe('ERR_LIMITER_OPTION');
      expect(create).toThrow(message);
    });

    test('is accepted with a valid value', () => {
      expect(new Limiter({}).maxPeers).toBe(1_000_000);
      expect(new Limiter({ maxPeers: Infinity, engine: undefined }).maxPeers).toBe(Infinity);
      expect(new Limiter({ maxPeers: 1, engine: 'auto' }).maxPeers).toBe(1);
      // Also across realms, and with a prototype of its own.
      expect(() => new Limiter(Object.create(null))).not.toThrow();
    });
  });
});

describe.each(ENGINES)('A limiter on the %s engine', (engine) => {
  test('accepts null for the default of burstLimit and disconnectThreshold, which is None in the reference', () => {
    const given = { engine, rateLimit: 2, burstLimit: null, disconnectThreshold: null };
    const limiters = [new RateLimiter(given), new SharedRateLimiter({ mode: 'local', ...given })];
    for (const limiter of limiters) {
      expect(limiter).toMatchObject({ rateLimit: 2, burstLimit: 20, disconnectThreshold: null });
      for (let n = 0; n < 20; n += 1) expect(limiter.check('peer')).toEqual(['allow', 0]);
      expect(limiter.check('peer')[0]).toBe('delay');
    }
    const limit = { engine, limit: 5, disconnectThreshold: null };
    expect(() => rateLimit(limit)).not.toThrow();
  });

  const clock = manualClock();
  const rate = new RateLimiter({ engine, clock, rateLimit: 1, burstLimit: 1 });
  const book = new OrderbookRateLimiter({ engine, clock });
  const direct = new DirectConnectionRateLimiter({ engine, clock });
  const empty = () => [
    rate.getStats().trackedPeers,
    book.getStatistics().trackedPeers,
    direct.getStatistics().trackedConnections,
  ];

  const KEYED: [name: string, call: (key: never) => unknown][] = [
    ['check', (key) => rate.check(key)],
    ['removePeer', (key) => rate.removePeer(key)],
    ['getViolationCount', (key) => rate.getViolationCount(key)],
    ['getDelayForPeer', (key) => rate.getDelayForPeer(key)],
    ['getTokens', (key) => rate.getTokens(key)],
    ['peek', (key) => rate.peek(key)],
    ['open', (key) => rate.open(key)],
    ['orderbook check', (key) => book.check(key)],
    ['orderbook isBanned', (key) => book.isBanned(key)],
    ['orderbook getBackoffLevel', (key) => book.getBackoffLevel(key)],
    ['orderbook open', (key) => book.open(key)],
    ['checkMessage', (key) => direct.checkMessage(key)],
    ['checkOrderbook', (key) => direct.checkOrderbook(key)],
    ['direct isBanned', (key) => direct.isBanned(key)],
    ['direct open', (key) => direct.open(key)],
  ];
  const NO_KEYS = [1, undefined, null, {}, ['a'], Symbol('a'), 10n, new String('a'), () => 'a'];

  test.each(KEYED)('throws unless the key is a string: %s', (_, call) => {
    for (const key of NO_KEYS) {
      expect(codeOf(() => call(key as never))).toBe('ERR_LIMITER_KEY');
      expect(() => call(key as never)).toThrow(TypeError);
    }
    expect(() => call(1 as never)).toThrow('a peer key must be a string, got 1');
    expect(empty()).toEqual([0, 0, 0]);
  });

  const COSTLY: [name: string, call: (cost: never) => unknown][] = [
    ['check', (cost) => rate.check('peer', cost)],
    ['opened check', (cost) => rate.open('peer').check(cost)],
    ['peek', (cost) => rate.peek('peer', cost)],
    ['opened peek', (cost) => rate.open('peer').peek(cost)],
    ['checkMessage', (cost) => direct.checkMessage('conn', cost)],
    ['opened checkMessage', (cost) => direct.open('conn').checkMessage(cost)],
  ];

  test.each(COSTLY)('throws unless the cost is finite and not negative: %s', (_, call) => {
    for (const cost of [-1, -1e-9, NAN, Infinity, -Infinity, '1', null, 1n, {}]) {
      expect(codeOf(() => call(cost as never))).toBe('ERR_LIMITER_COST');
    }
    expect(() => call(-1 as never)).toThrow('a cost must be a finite number of at least 0, got -1');
    expect(() => call('1' as never)).toThrow(TypeError);
    expect(empty()).toEqual([0, 0, 0]);
  });

  test('accepts any number but NaN as a maximum age, and only a finite budget', () => {
    for (const age of [NAN, '1', null, {}]) {
      expect(codeOf(() => rate.cleanupOldPeers(age as never))).toBe('ERR_LIMITER_OPTION');
      expect(codeOf(() => book.cleanupOldEntries(age as never))).toBe('ERR_LIMITER_OPTION');
      expect(codeOf(() => direct.cleanupOldEntries(age as never))).toBe('ERR_LIMITER_OPTION');
    }
    for (const budgetMs of [-1, NAN, Infinity, '1', null]) {
      const limits = { budgetMs } as never;
      expect(codeOf(() => rate.cleanupOldPeers(1, limits))).toBe('ERR_LIMITER_OPTION');
    }
    expect(codeOf(() => rate.cleanupOldPeers(1, { budget: 1 } as never))).toBe(
      'ERR_LIMITER_OPTION',
    );
    expect(codeOf(() => rate.cleanupOldPeers(1, 5 as never))).toBe('ERR_LIMITER_OPTION');
  });

  test('throws if the clock returns no finite number, and changes nothing', () => {
    let time: unknown = 0;
    const options = { engine, clock: () => time as number };
    const limiter = new RateLimiter({ ...options, rateLimit: 1, burstLimit: 1 });
    const orderbook = new OrderbookRateLimiter(options);
    const connection = new DirectConnectionRateLimiter(options);
    const group = limiter.group(['peer']);
    const calls = [
      () => limiter.check('peer'),
      () => limiter.cleanupOldPeers(),
      () => group.check(),
      () => orderbook.check('peer'),
      () => orderbook.isBanned('peer'),
      () => orderbook.cleanupOldEntries(),
      () => orderbook.getStatistics(),
      () => connection.checkMessage('peer'),
      () => connection.checkOrderbook('peer'),
      () => connection.isBanned('peer'),
    ];
    for (time of [NAN, Infinity, -Infinity, undefined, '5', 5n]) {
      for (const call of calls) expect(codeOf(call)).toBe('ERR_LIMITER_CLOCK');
    }
    expect(() => limiter.check('peer')).toThrow('clock()');
    time = 5;
    expect(limiter.getStats().trackedPeers).toBe(0);
    expect(limiter.check('peer')).toEqual(['allow', 0]);
    time = NAN;
    codeOf(() => limiter.check('peer'));
    time = 5;
    expect(limiter.check('peer')).toEqual(['delay', 1]);
    expect(limiter.getViolationCount('peer')).toBe(1);
  });

  test('passes on the error of a clock, and changes nothing', () => {
    const failure = new Error('no clock today');
    let broken = true;
    const limiter = new RateLimiter({
      engine,
      clock: () => {
        if (broken) throw failure;
        return 5;
      },
    });
    expect(() => limiter.check('peer')).toThrow(failure);
    expect(() => limiter.group(['peer']).check()).toThrow(failure);
    broken = false;
    expect(limiter.getStats().trackedPeers).toBe(0);
  });

  test('can be called by its own clock and its own onBan', () => {
    const limiter: RateLimiter = new RateLimiter({
      engine,
      clock: () => limiter.getViolationCount('peer') + 5,
    });
    expect(limiter.check('peer')).toEqual(['allow', 0]);
    const banned: string[] = [];
    const orderbook: OrderbookRateLimiter = new OrderbookRateLimiter({
      engine,
      clock: () => 5,
      violationBanThreshold: 1,
      onBan: ({ key }) => {
        banned.push(key);
        expect(orderbook.isBanned(key)).toBe(true);
        orderbook.clear();
      },
    });
    for (let n = 0; n < 3; n += 1) orderbook.check('nick');
    expect(banned).toEqual(['nick']);
    expect(orderbook.check('nick')).toBe(true);
  });
});

test('PeerGroup throws unless its members are an iterable and not a string', () => {
  const limiter = new RateLimiter();
  const wrong = ['abc', new String('abc'), runInNewContext('new String("abc")'), {}, 7, null];
  for (const members of [...wrong, { [Symbol.iterator]: 1 }]) {
    const create = () => limiter.group(members as never);
    expect(codeOf(create)).toBe('ERR_LIMITER_OPTION');
    expect(create).toThrow('the members of a group must be an iterable, got ');
  }
  expect(limiter.group(new Set(['a', 'b'])).size).toBe(2);
});

describe('TokenBucket', () => {
  test.each([
    [0, 1],
    [-1, 1],
    [1, 0],
    [1, -1],
    [NAN, 1],
    [Infinity, 1],
    [1, NAN],
    [1, Infinity],
    ['1', 1],
    [1, null],
    [undefined, 1],
    [1, undefined],
  ])('throws for the arguments %s, %s', (capacity, refillRate) => {
    const create = () => new TokenBucket(capacity as number, refillRate as number);
    expect(codeOf(create)).toBe('ERR_LIMITER_OPTION');
    expect(create).toThrow(POSITIVE);
  });

  test('checks options, costs and clocks as the limiters do', () => {
    expect(codeOf(() => new TokenBucket(1, 1, { clok: 1 } as never))).toBe('ERR_LIMITER_OPTION');
    expect(codeOf(() => new TokenBucket(1, 1, { clock: 1 } as never))).toBe('ERR_LIMITER_OPTION');
    expect(codeOf(() => new TokenBucket(1, 1, { clock: () => NAN }))).toBe('ERR_LIMITER_CLOCK');
    let now = 5;
    const bucket = new TokenBucket(3, 1, { clock: () => now });
    for (const cost of [-1, NAN, Infinity, '1', null]) {
      expect(codeOf(() => bucket.consume(cost as never))).toBe('ERR_LIMITER_COST');
    }
    now = NAN;
    expect(codeOf(() => bucket.consume())).toBe('ERR_LIMITER_CLOCK');
    expect(codeOf(() => bucket.reset())).toBe('ERR_LIMITER_CLOCK');
    expect(bucket).toMatchObject({ tokens: 3, lastRefill: 5 });
  });
});
