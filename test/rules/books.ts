// Random rules and random calls of a RuleLimiter, for its property tests: fast-check makes a counterexample small.

import fc from 'fast-check';
import type {
  EngineName,
  Keys,
  Rule,
  RuleLimiterOptions,
  RuleNumbers,
  RuleVerdict,
} from 'relay-limiter';
import { RuleLimiter } from 'relay-limiter';
import type { ManualClock } from '../support/limiters.js';

/** A call by one of four peers. Each has a key of `peer`, one of them a long one; two share an account. */
export interface Call {
  readonly kind: 'check' | 'charge' | 'refund';
  /** Seconds before the call. */
  readonly step: number;
  readonly keys: Keys;
  readonly cost: Readonly<Record<Unit, number>>;
  readonly action: Action;
  readonly isOpened: boolean;
}

export type Unit = (typeof UNITS)[number];
type Action = (typeof ACTIONS)[number];
export type Rules = Readonly<Record<string, Rule>>;

export const UNITS = ['requests', 'bytes'] as const;
export const ACTIONS = [undefined, 'a', 'b'] as const;
export const SCOPES = { peer: {}, account: {}, server: { single: true } };
export const KEYS: readonly Keys[] = [
  { peer: 'p0' },
  { peer: 'p1', account: 'shared' },
  { peer: 'p2'.padEnd(300, '-'), account: 'shared' },
  { peer: 'p3', account: 'own' },
];

/** No rule of the tests has this action. It declares the units, so that each cost is of a known unit. */
const DECLARED: Rules = Object.fromEntries(
  UNITS.map((unit) => [
    `declares ${unit}`,
    { scope: 'server', action: 'declare', unit, rateLimit: 1 },
  ]),
);

/** Multiples of 1 / parts. If that is a power of two, products of two such numbers are exact. */
export const THOUSANDTHS = 1000;
export const EXACT = 1024;
export const numbers = (min: number, max: number, parts = THOUSANDTHS) =>
  fc.integer({ min: Math.ceil(min * parts), max: max * parts }).map((n) => n / parts);

export const rates = (parts = THOUSANDTHS) =>
  fc.oneof(numbers(1 / parts, 1, parts), numbers(1, 500, parts));
export const bursts = (parts = THOUSANDTHS) => fc.oneof(fc.constant(1), numbers(1, 20, parts));

/** Mostly about the time in which a bucket fills; now and then none, or very much. */
export const steps = (parts = THOUSANDTHS) =>
  fc.oneof(
    { weight: 5, arbitrary: numbers(0, 3, parts) },
    { weight: 2, arbitrary: fc.constant(0) },
    { weight: 1, arbitrary: numbers(0, 10_000, parts) },
  );

export const rules = (parts = THOUSANDTHS): fc.Arbitrary<Rule> =>
  fc
    .record({
      scope: fc.constantFrom(...Object.keys(SCOPES)),
      action: fc.constantFrom(undefined, undefined, 'a', ['a', 'b']),
      unit: fc.constantFrom(...UNITS),
      warnBelow: fc.constantFrom(undefined, 0.3, 1),
      violation: fc.boolean(),
      numbers: fc.oneof(
        fc.record({ rateLimit: rates(parts), burstLimit: bursts(parts) }),
        fc.record({
          quota: fc.integer({ min: 1, max: 20 }),
          windowSeconds: fc.constantFrom(0.5, 1, 4, 1024),
        }),
      ),
    })
    .map(({ numbers, ...rule }) => ({ ...rule, ...numbers }));

/** Rules named `rule 0`, `rule 1` ... */
export const books = (parts = THOUSANDTHS, most = 5): fc.Arbitrary<Rules> =>
  fc
    .array(rules(parts), { minLength: 1, maxLength: most })
    .map((all) => Object.fromEntries(all.map((rule, n) => [`rule ${n}`, rule])));

export const costs = (parts = THOUSANDTHS) =>
  fc.record({
    requests: fc.oneof(fc.constant(1), fc.constant(0), numbers(0, 22, parts)),
    bytes: fc.oneof(fc.constant(0), fc.constant(1), numbers(0, 22, parts)),
  });

export const calls = (parts = THOUSANDTHS, kinds: readonly Call['kind'][] = ['check']) =>
  fc.array(
    fc.record<Call>({
      kind: fc.constantFrom(...kinds),
      step: steps(parts),
      keys: fc.constantFrom(...KEYS),
      cost: costs(parts),
      action: fc.constantFrom(...ACTIONS),
      isOpened: fc.boolean(),
    }),
    { minLength: 1, maxLength: 50, size: 'max' },
  );

export const ALL_KINDS: readonly Call['kind'][] = ['check', 'check', 'check', 'charge', 'refund'];

export type Options = Partial<Omit<RuleLimiterOptions, 'scopes'>>;

export function withUnits(rules: Rules): Rules {
  return { ...rules, ...DECLARED };
}

/** A limiter with these rules, whose peers can be asked by their keys or opened. */
export class Subject {
  readonly limiter: RuleLimiter;
  readonly #clock: ManualClock;
  readonly #opened: ReadonlyMap<Keys, ReturnType<RuleLimiter['open']>>;

  constructor(engine: EngineName, clock: ManualClock, book: Rules, options: Options = {}) {
    const rules = withUnits(book);
    this.#clock = clock;
    this.limiter = new RuleLimiter({ engine, clock, scopes: SCOPES, ...options, rules });
    this.#opened = new Map(KEYS.map((keys) => [keys, this.limiter.open(keys)]));
  }

  /** Waits and makes the call. Undefined for a charge or a refund, which has no verdict. */
  make({ step, ...call }: Call): RuleVerdict | undefined {
    this.#clock.now += step;
    return this.makeNow(call);
  }

  makeNow({ kind, keys, cost, action, isOpened }: Omit<Call, 'step'>): RuleVerdict | undefined {
    const peer = isOpened ? this.#opened.get(keys) : undefined;
    const verdict =
      peer === undefined ? this.limiter[kind](keys, cost, action) : peer[kind](cost, action);
    return verdict ?? undefined;
  }

  /** The tokens left of every bucket, as of now: by rule and keys. */
  buckets(keys: readonly Keys[] = KEYS): Map<string, number> {
    const left = new Map<string, number>();
    for (const own of keys) {
      for (const action of ACTIONS) {
        for (const { rule, scope, remaining } of this.limiter.peek(own, 0, action).rules) {
          if (!rule.startsWith('declares')) left.set(`${rule} of ${own[scope]}`, remaining);
        }
      }
    }
    return left;
  }
}

/** The rate and the burst of a rule. */
export function numbersOf(rule: RuleNumbers): { rate: number; burst: number } {
  const { rateLimit, quota = 0, windowSeconds = 1 } = rule;
  if (rateLimit === undefined) return { rate: quota / windowSeconds, burst: quota };
  return { rate: rateLimit, burst: rule.burstLimit ?? Math.max(1, rateLimit * 10) };
}

export function appliesTo({ action }: Rule, asked: string | undefined): boolean {
  if (action === undefined) return true;
  return asked !== undefined && [action].flat().includes(asked);
}
