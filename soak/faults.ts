// Faults, one at a time: the call must fail with the right code, and leave everything as it was. That
// it did, the answers to all that follows show.

import type { PeerGroup } from 'relay-limiter';
import type { Random } from '../test/support/random.js';
import { ClockFault, type VirtualClock } from './clock.js';
import { Difference } from './model/model.js';
import type { Question, SnapshotEntry } from './model/rules.js';
import type { Asked } from './subjects.js';

/** What a fault is injected into. */
export interface Target {
  readonly asked: Asked;
  readonly group: PeerGroup | undefined;
  readonly clock: VirtualClock;
  readonly key: string;
  readonly question: Question;
}

interface Fault {
  readonly kind: string;
  /** The code of the error, or the error itself. */
  readonly expected: unknown;
  /** False where the limiter has no such call. */
  fits?(target: Target): boolean;
  act(target: Target, random: Random): unknown;
}

const CLOCK_FAULT = new ClockFault('the clock broke');
const NO_KEYS: unknown[] = [undefined, null, 7, {}, ['a'], Symbol('key'), 10n];
const NO_COSTS = [-1, Number.NaN, Infinity, '1', null];
const NO_SNAPSHOTS: unknown[] = [undefined, null, 'x', [], {}, { format: 2 }];

const FAULTS: readonly Fault[] = [
  {
    kind: 'clock throws',
    expected: CLOCK_FAULT,
    act({ asked, clock, key, question }) {
      clock.failOnce(() => {
        throw CLOCK_FAULT;
      });
      return asked.askOpened(key, question);
    },
  },
  {
    kind: 'clock throws in a group',
    expected: CLOCK_FAULT,
    fits: ({ group }) => group !== undefined,
    act({ group, clock }) {
      clock.failOnce(() => {
        throw CLOCK_FAULT;
      });
      return group?.check();
    },
  },
  {
    kind: 'clock tells no number',
    expected: 'ERR_LIMITER_CLOCK',
    act({ asked, clock, key, question }, random) {
      clock.failOnce(() => random.pick([Number.NaN, Infinity, -Infinity]));
      return asked.ask(key, question);
    },
  },
  {
    kind: 'clock breaks in a cleanup',
    expected: 'ERR_LIMITER_CLOCK',
    act({ asked, clock }) {
      clock.failOnce(() => Number.NaN);
      return asked.cleanup(-1);
    },
  },
  {
    kind: 'no key',
    expected: 'ERR_LIMITER_KEY',
    act: ({ asked, question }, random) => asked.ask(random.pick(NO_KEYS) as string, question),
  },
  {
    kind: 'no cost',
    expected: 'ERR_LIMITER_COST',
    fits: ({ question }) => question.ask === 'tokens',
    act: ({ asked, key }, random) =>
      asked.askOpened(key, { ask: 'tokens', cost: random.pick(NO_COSTS) as number }),
  },
  {
    kind: 'no age',
    expected: 'ERR_LIMITER_OPTION',
    act: ({ asked }) => asked.cleanup(Number.NaN),
  },
  {
    kind: 'no budget',
    expected: 'ERR_LIMITER_OPTION',
    act: ({ asked }) => asked.cleanup(-1, Number.NaN),
  },
  {
    kind: 'verdicts too short',
    expected: 'ERR_LIMITER_OPTION',
    fits: ({ group }) => group !== undefined && group.size > 0,
    act: ({ group }) => group?.check(1, new Uint8Array((group.size as number) - 1)),
  },
  {
    kind: 'no snapshot',
    expected: 'ERR_LIMITER_SNAPSHOT',
    act: ({ asked }, random) => asked.restore(random.pick(NO_SNAPSHOTS)),
  },
  {
    kind: 'a damaged snapshot',
    expected: 'ERR_LIMITER_SNAPSHOT',
    act({ asked }, random) {
      const snapshot = asked.snapshot();
      return asked.restore({ ...snapshot, peers: [...good(random), damaged(random)] });
    },
  },
];

/** Injects one, and returns its kind. @throws Difference if the call did not fail as it must. */
export function injectFault(target: Target, random: Random): string {
  const fault = random.pick(FAULTS.filter(({ fits }) => fits?.(target) ?? true));
  let outcome: unknown;
  try {
    outcome = { returned: fault.act(target, random) };
  } catch (error) {
    outcome = typeof fault.expected === 'string' ? (error as { code?: unknown }).code : error;
  }
  if (outcome === fault.expected) return fault.kind;
  throw new Difference(`${fault.kind}: ${JSON.stringify(outcome)}, not ${fault.expected}`);
}

/** Entries that would be put back, if the one behind them were none the worse. */
function good(random: Random): SnapshotEntry[] {
  return Array.from({ length: random.below(20) }, (_, i) => ({
    key: `of a damaged snapshot ${i}`,
    violations: 7,
    banSecondsLeft: null,
    idleSeconds: 1,
    bucket: null,
  }));
}

function damaged(random: Random): unknown {
  const entry = {
    key: 'damaged',
    violations: 3,
    banSecondsLeft: null,
    idleSeconds: 1,
    bucket: null,
  };
  return random.pick<unknown>([
    null,
    7,
    { ...entry, key: 7 },
    { ...entry, violations: -1 },
    { ...entry, violations: 1.5 },
    { ...entry, violations: '3' },
    { ...entry, violations: 0 },
    { ...entry, banSecondsLeft: Number.NaN },
    { ...entry, banSecondsLeft: -1 },
    { ...entry, idleSeconds: Infinity },
    { ...entry, idleSeconds: 'x' },
    { ...entry, more: 1 },
    { key: 'damaged', violations: 3 },
  ]);
}
