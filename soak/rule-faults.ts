// Injects one fault at a time into a RuleLimiter: the call must fail with the right code and change no state.

import type { RuleLimiter } from 'relay-limiter';
import type { Random } from '../test/support/random.js';
import { ClockFault, type VirtualClock } from './clock.js';
import { Difference } from './model/model.js';

export interface RuleTarget {
  readonly limiter: RuleLimiter;
  readonly clock: VirtualClock;
  readonly key: string;
}

interface Fault {
  readonly kind: string;
  /** The expected `code` of the error, or the error itself. */
  readonly expected: unknown;
  act(target: RuleTarget, random: Random): unknown;
}

const CLOCK_FAULT = new ClockFault('the clock broke');
const SCOPE = 'connection';
const OFFENDER = {
  ...{ key: 'of a damaged snapshot', violations: 3, level: 0, banLevel: 0, banSecondsLeft: null },
  ...{ secondsSinceBan: null, idleSeconds: 1, used: {} },
};

const FAULTS: readonly Fault[] = [
  {
    kind: 'rules: clock throws',
    expected: CLOCK_FAULT,
    act({ limiter, clock, key }, random) {
      clock.failOnce(() => {
        throw CLOCK_FAULT;
      });
      return random() < 0.5
        ? limiter.check({ [SCOPE]: key })
        : limiter.open({ [SCOPE]: key }).check();
    },
  },
  {
    kind: 'rules: clock returns no finite number',
    expected: 'ERR_LIMITER_CLOCK',
    act({ limiter, clock, key }, random) {
      clock.failOnce(() => random.pick([Number.NaN, Infinity, -Infinity]));
      const keys = { [SCOPE]: key };
      return random.pick<() => unknown>([
        () => limiter.check(keys),
        () => limiter.charge(keys),
        () => limiter.ban(SCOPE, key, 60),
        () => limiter.update({}),
        () => limiter.cleanup(-1),
      ])();
    },
  },
  {
    kind: 'rules: invalid key',
    expected: 'ERR_LIMITER_KEY',
    act: ({ limiter }, random) =>
      limiter.check(random.pick<unknown>([7, null, { [SCOPE]: 7 }, { nowhere: 'x' }]) as string),
  },
  {
    kind: 'rules: invalid cost',
    expected: 'ERR_LIMITER_COST',
    act: ({ limiter, key }, random) =>
      limiter.check(
        { [SCOPE]: key },
        random.pick<unknown>([-1, Number.NaN, Infinity, '1', { nothing: 1 }]) as number,
      ),
  },
  {
    kind: 'rules: unknown plan',
    expected: 'ERR_LIMITER_OPTION',
    act: ({ limiter, key }) => limiter.check({ [SCOPE]: key }, 1, undefined, 'no plan'),
  },
  {
    kind: 'rules: invalid update',
    expected: 'ERR_LIMITER_OPTION',
    act: ({ limiter }) =>
      limiter.update({
        rules: { another: { scope: SCOPE, rateLimit: 1 } },
        bans: { server: { violations: 1, withinSeconds: 1, seconds: 1 } },
      }),
  },
  {
    kind: 'rules: damaged snapshot',
    expected: 'ERR_LIMITER_SNAPSHOT',
    act({ limiter }, random) {
      const { scopes, ...head } = limiter.snapshot();
      const damaged = random.pick<unknown>([
        null,
        { ...OFFENDER, violations: -1 },
        { ...OFFENDER, used: { 'rule 0': Number.NaN } },
        { ...OFFENDER, banSecondsLeft: 'long' },
        { ...OFFENDER, more: 1 },
      ]);
      const scope = { scope: SCOPE, peers: [OFFENDER, damaged], digests: [] };
      return limiter.restore({ ...head, scopes: [...scopes, scope] });
    },
  },
];

/** Injects one fault and returns its kind. @throws Difference if the call does not fail as expected. */
export function injectRuleFault(target: RuleTarget, random: Random): string {
  const fault = random.pick(FAULTS);
  let outcome: unknown;
  try {
    outcome = { returned: fault.act(target, random) };
  } catch (error) {
    outcome = typeof fault.expected === 'string' ? (error as { code?: unknown }).code : error;
  }
  if (outcome === fault.expected) return fault.kind;
  throw new Difference(`${fault.kind}: ${JSON.stringify(outcome)}, not ${fault.expected}`);
}
