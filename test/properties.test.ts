// What must hold whatever is done, in whatever order: fast-check looks for a counterexample, makes it
// small, and prints its seed and path.

import fc from 'fast-check';
import {
  DirectConnectionRateLimiter,
  type EngineName,
  OrderbookRateLimiter,
  RateLimiter,
} from 'relay-limiter';
import { describe, expect, test } from 'vitest';
import { ENGINES, manualClock } from './support/limiters.js';
import { runs } from './support/runs.js';

const MICROSECOND = 1e-6;

/** Thousandths: fast-check's doubles are as often tiny as not. */
const number = (min: number, max: number) =>
  fc.integer({ min: min * 1000, max: max * 1000 }).map((n) => n / 1000);

/** Mostly forward, now and then not at all, or back. */
const step = fc.oneof(
  { weight: 4, arbitrary: number(0, 3) },
  { weight: 1, arbitrary: fc.constant(0) },
  { weight: 1, arbitrary: number(-20, 0) },
  { weight: 1, arbitrary: number(0, 100_000) },
);
const cost = fc.oneof(fc.constant(1), number(0, 12));
const rate = number(0.001, 500);
const burst = number(1, 20);
const engine = fc.constantFrom(...ENGINES);

type Way = 'by key' | 'opened' | 'in a group';
const way = fc.constantFrom<Way>('by key', 'opened', 'in a group');

/** Three ways to the same bucket: true if the cost was taken. */
function waysTo(limiter: RateLimiter | DirectConnectionRateLimiter, key: string) {
  const byKey =
    limiter instanceof RateLimiter
      ? (cost: number) => limiter.check(key, cost)[0] === 'allow'
      : (cost: number) => limiter.checkMessage(key, cost);
  const peer = limiter.open(key);
  const opened = (cost: number) =>
    'check' in peer ? peer.check(cost)[0] === 'allow' : peer.checkMessage(cost);
  const group = limiter.group(['another', peer]);
  const inGroup = (cost: number) => group.check(cost)[1] === 0;
  return { 'by key': byKey, opened, 'in a group': inGroup };
}

describe.each([
  [
    'RateLimiter',
    (rateLimit: number, burstLimit: number, clock: () => number, engine: EngineName) =>
      new RateLimiter({ rateLimit, burstLimit, clock, engine }),
  ],
  [
    'DirectConnectionRateLimiter',
    (messageRatePerSec: number, messageBurst: number, clock: () => number, engine: EngineName) =>
      new DirectConnectionRateLimiter({ messageRatePerSec, messageBurst, clock, engine }),
  ],
])('%s', (_, create) => {
  test('never allows more than the burst and the refill over any interval', () => {
    const arrivals = fc.array(fc.record({ step, cost, way }), {
      minLength: 1,
      maxLength: 60,
      size: 'max',
    });
    const property = fc.property(rate, burst, engine, arrivals, (rate, burst, engine, arrivals) => {
      const clock = manualClock();
      const ways = waysTo(create(rate, burst, clock, engine), 'peer');
      // Of each interval that began at an earlier arrival: what it has admitted, and what it may.
      const intervals: { admitted: number; allowed: number }[] = [];
      for (const { step, cost, way } of arrivals) {
        const before = clock.now;
        clock.now += step;
        // Time that stepped back brings nothing, when it comes again it does.
        const brought = Math.max(0, clock.now - before) * rate;
        for (const interval of intervals) interval.allowed += brought;
        intervals.push({ admitted: 0, allowed: burst });
        if (!ways[way](cost)) continue;
        for (const interval of intervals) interval.admitted += cost;
        const beyond = intervals.find(({ admitted, allowed }) => admitted > allowed * (1 + 1e-9));
        expect(beyond).toBeUndefined();
      }
    });
    fc.assert(property, runs(150));
  });
});

test('RateLimiter allows a peer after its delay and one microsecond, whatever other peers do', () => {
  const visits = fc.array(fc.record({ step, cost, newcomers: fc.nat(30) }), {
    maxLength: 40,
    size: 'max',
  });
  const property = fc.property(
    rate,
    burst,
    engine,
    fc.integer({ min: 1, max: 40 }),
    visits,
    (rateLimit, burstLimit, engine, maxPeers, visits) => {
      const clock = manualClock();
      const limiter = new RateLimiter({ rateLimit, burstLimit, engine, maxPeers, clock });
      let newcomer = 0;
      for (const { step, cost, newcomers } of visits) {
        clock.now += step;
        const [action, delay] = limiter.check('patient', cost);
        expect(action === 'delay' && delay === Infinity).toBe(
          action !== 'allow' && cost > burstLimit,
        );
        if (action === 'allow' || delay === Infinity) continue;
        clock.now += delay + MICROSECOND;
        for (let n = 0; n < newcomers; n += 1) limiter.check(`newcomer-${newcomer++}`, 1);
        expect(limiter.check('patient', cost)).toEqual(['allow', 0]);
      }
    },
  );
  fc.assert(property, runs(150));
});

/** A limiter that bans, and how one of its peers is asked. */
interface Banning {
  readonly limiter: OrderbookRateLimiter | DirectConnectionRateLimiter;
  check(key: string): boolean;
}

const BAN_SECONDS = 100;

const BANNING: Record<
  string,
  (engine: EngineName, maxPeers: number, clock: () => number) => Banning
> = {
  OrderbookRateLimiter(engine, maxPeers, clock) {
    const options = { interval: 10, violationBanThreshold: 2, banDuration: BAN_SECONDS };
    const limiter = new OrderbookRateLimiter({ ...options, engine, maxPeers, clock });
    return { limiter, check: (key) => limiter.check(key) };
  },
  DirectConnectionRateLimiter(engine, maxPeers, clock) {
    const options = { orderbookBanThreshold: 2, banDuration: BAN_SECONDS };
    const limiter = new DirectConnectionRateLimiter({ ...options, engine, maxPeers, clock });
    return { limiter, check: (key) => limiter.checkOrderbook(key) };
  },
};

/** When the victim's ban is over. */
interface BanModel {
  ends: number;
}

interface BanSystem {
  banning: Banning;
  readonly clock: ReturnType<typeof manualClock>;
  create(engine: EngineName): Banning;
  newcomers: number;
}

const VICTIM = 'victim';

type Act = (model: BanModel, system: BanSystem) => void;

/** Something is done, and then the victim must be banned still, or no longer. */
function command(words: string, act: Act): fc.Command<BanModel, BanSystem> {
  return {
    check: () => true,
    run(model, system) {
      act(model, system);
      const { clock, banning } = system;
      // At the very end of a ban the last bit decides.
      if (Math.abs(clock.now - model.ends) < MICROSECOND) clock.now += 2 * MICROSECOND;
      const banned = clock.now < model.ends;
      expect(banning.limiter.isBanned(VICTIM)).toBe(banned);
      const entry = banning.limiter.snapshot().peers.find(({ key }) => key === VICTIM);
      const left = Math.min(model.ends - clock.now, BAN_SECONDS);
      if (banned) expect(entry?.banSecondsLeft).toBeCloseTo(left, 6);
      else expect(entry?.banSecondsLeft ?? null).toBeNull();
      if (!banned) ban(model, system);
    },
    toString: () => words,
  };
}

/** Begins a ban anew. */
function ban(model: BanModel, { banning, clock }: BanSystem): void {
  banning.limiter.removePeer(VICTIM);
  for (let n = 0; n < 5; n += 1) banning.check(VICTIM);
  // Where all others are banned there is no room for it.
  if (!banning.limiter.isBanned(VICTIM)) banning.limiter.clear();
  for (let n = 0; n < 5; n += 1) banning.check(VICTIM);
  model.ends = clock.now + BAN_SECONDS;
}

const COMMANDS = [
  number(-30, 60).map((step) =>
    command(`${step} s pass`, (_, { clock }) => {
      clock.now += step;
    }),
  ),
  fc.constant(command('the victim asks', (_, { banning }) => banning.check(VICTIM))),
  fc.tuple(fc.nat(60), fc.integer({ min: 1, max: 5 })).map(([keys, times]) =>
    command(`${keys} newcomers ask ${times} times`, (_, system) => {
      for (let n = 0; n < keys; n += 1) {
        const key = `newcomer-${system.newcomers++}`;
        for (let time = 0; time < times; time += 1) system.banning.check(key);
      }
    }),
  ),
  fc
    .tuple(fc.constantFrom(-1, 0, 20, 3600), fc.constantFrom(undefined, 0, 1))
    .map(([age, budgetMs]) =>
      command(`a cleanup of ${age} s, budget ${budgetMs} ms`, (_, { banning }) =>
        banning.limiter.cleanupOldEntries(age, { budgetMs }),
      ),
    ),
  // A new process, perhaps of the other engine: its clock has another beginning.
  fc.tuple(engine, number(-1e5, 1e5)).map(([engine, clockStep]) =>
    command(`restart on ${engine}, its clock ${clockStep} s from this`, (model, system) => {
      const { clock } = system;
      const file = JSON.stringify(system.banning.limiter.snapshot());
      // Of a clock that stepped back nothing is kept: no ban is longer than its duration.
      const left = Math.min(model.ends - clock.now, BAN_SECONDS);
      clock.now += clockStep;
      system.banning = system.create(engine);
      system.banning.limiter.restore(JSON.parse(file));
      model.ends = clock.now + left;
    }),
  ),
];

describe.each(Object.keys(BANNING))('%s', (name) => {
  test('keeps a ban for exactly its duration, whatever happens in the meantime', () => {
    const commands = fc.commands(COMMANDS, { maxCommands: 60, size: 'max' });
    const maxPeers = fc.constantFrom(1, 2, 16, 17, 30);
    const property = fc.property(commands, maxPeers, engine, (commands, maxPeers, engine) => {
      const clock = manualClock();
      const create = (engine: EngineName) =>
        (BANNING[name] as (typeof BANNING)[string])(engine, maxPeers, clock);
      fc.modelRun(() => {
        const model: BanModel = { ends: 0 };
        const real: BanSystem = { banning: create(engine), clock, create, newcomers: 0 };
        ban(model, real);
        return { model, real };
      }, commands);
    });
    fc.assert(property, runs());
  });
});

/** Every limiter, one check of a key each. */
const BOUNDED: Record<
  string,
  (engine: EngineName, maxPeers: number, clock: () => number) => Bounded
> = {
  RateLimiter(engine, maxPeers, clock) {
    const limiter = new RateLimiter({ engine, maxPeers, clock, rateLimit: 1, burstLimit: 1 });
    return { limiter, check: [(key) => limiter.check(key)], statistics: () => limiter.getStats() };
  },
  OrderbookRateLimiter(engine, maxPeers, clock) {
    const options = { interval: 10, violationBanThreshold: 1, banDuration: 30 };
    const limiter = new OrderbookRateLimiter({ ...options, engine, maxPeers, clock });
    const statistics = () => limiter.getStatistics();
    return { limiter, check: [(key) => limiter.check(key)], statistics };
  },
  DirectConnectionRateLimiter(engine, maxPeers, clock) {
    const options = { messageBurst: 1, orderbookBanThreshold: 1, banDuration: 30 };
    const limiter = new DirectConnectionRateLimiter({ ...options, engine, maxPeers, clock });
    const check = [
      (key: string) => limiter.checkMessage(key),
      (key: string) => limiter.checkOrderbook(key),
    ];
    return { limiter, check, statistics: () => limiter.getStatistics() };
  },
};

interface Bounded {
  limiter: RateLimiter | OrderbookRateLimiter | DirectConnectionRateLimiter;
  check: ((key: string) => unknown)[];
  statistics(): {
    peers: number;
    evictions: number;
    lossyEvictions: number;
    refusedNewcomers: number;
  };
}

describe.each(Object.keys(BOUNDED))('%s', (name) => {
  test('stores at most maxPeers peers, and counts evictions and refused newcomers', () => {
    type Act = { act: 'check' | 'new' | 'remove' | 'cleanup' | 'step'; of: number };
    const act = fc.constantFrom<Act['act']>(
      'check',
      'check',
      'new',
      'new',
      'remove',
      'cleanup',
      'step',
    );
    const acts = fc.array(fc.record({ act, of: fc.nat(100) }), { maxLength: 150, size: 'max' });
    const maxPeers = fc.constantFrom(1, 2, 3, 16, 17, 40);
    const property = fc.property(acts, maxPeers, engine, (acts, maxPeers, engine) => {
      const clock = manualClock();
      const create = BOUNDED[name] as (typeof BOUNDED)[string];
      const { limiter, check, statistics } = create(engine, maxPeers, clock);
      acts.forEach(({ act, of }, n) => {
        const before = statistics();
        const ask = check[of % check.length] as (key: string) => unknown;
        if (act === 'step') clock.now += of / 10;
        else if (act === 'remove') limiter.removePeer(`peer-${of}`);
        else if (act === 'cleanup' && 'cleanupOldPeers' in limiter)
          limiter.cleanupOldPeers(of / 10);
        else if (act === 'cleanup') (limiter as OrderbookRateLimiter).cleanupOldEntries(of / 10);
        else ask(act === 'new' ? `new-${n}` : `peer-${of}`);
        const after = statistics();
        expect(after.peers).toBeLessThanOrEqual(maxPeers);
        expect(after.lossyEvictions).toBeLessThanOrEqual(after.evictions);
        if (act !== 'new') return;
        // One peer more, or one in the place of another, or none.
        const came = after.peers - before.peers + after.evictions - before.evictions;
        expect(came + after.refusedNewcomers - before.refusedNewcomers).toBe(1);
        if (before.peers < maxPeers) expect(after.peers).toBe(before.peers + 1);
      });
    });
    fc.assert(property, runs());
  });
});
