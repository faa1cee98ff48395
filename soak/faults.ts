// Injects one fault at a time: the call must fail with the right code and change no state. The comparison of all later
// calls with the model shows that it changed none.

import type { PeerGroup } from 'relay-limiter';
import type { Random } from '../test/support/random.js';
import { ClockFault, type VirtualClock } from './clock.js';
import { Difference } from './model/model.js';
import type { Query, SnapshotEntry } from './model/rules.js';
import type { LimiterAdapter } from './subjects.js';

/** The limiter and the clock that a fault is injected into. */
export interface Target {
  readonly limiter: LimiterAdapter;
  readonly group: PeerGroup | undefined;
  readonly clock: VirtualClock;
  readonly key: string;
  readonly query: Query;
}

interface Fault {
  readonly kind: string;
  /** The expected `code` of the error, or the error itself. */
  readonly expected: unknown;
  /** Returns false if the limiter has no such call. Default: the fault fits every limiter. */
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
    act({ limiter, clock, key, query }) {
      clock.failOnce(() => {
        throw CLOCK_FAULT;
      });
      return limiter.queryPeer(key, query);
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
    kind: 'clock returns no finite number',
    expected: 'ERR_LIMITER_CLOCK',
    act({ limiter, clock, key, query }, random) {
      clock.failOnce(() => random.pick([Number.NaN, Infinity, -Infinity]));
      return limiter.query(key, query);
    },
  },
  {
    kind: 'clock fails during a cleanup',
    expected: 'ERR_LIMITER_CLOCK',
    act({ limiter, clock }) {
      clock.failOnce(() => Number.NaN);
      return limiter.cleanup(-1);
    },
  },
  {
    kind: 'invalid key',
    expected: 'ERR_LIMITER_KEY',
    act: ({ limiter, query }, random) => limiter.query(random.pick(NO_KEYS) as string, query),
  },
  {
    kind: 'invalid cost',
    expected: 'ERR_LIMITER_COST',
    fits: ({ query }) => query.kind === 'tokens',
    act: ({ limiter, key }, random) =>
      limiter.queryPeer(key, { kind: 'tokens', cost: random.pick(NO_COSTS) as number }),
  },
  {
    kind: 'invalid age',
    expected: 'ERR_LIMITER_OPTION',
    act: ({ limiter }) => limiter.cleanup(Number.NaN),
  },
  {
    kind: 'invalid budget',
    expected: 'ERR_LIMITER_OPTION',
    act: ({ limiter }) => limiter.cleanup(-1, Number.NaN),
  },
  {
    kind: 'verdicts too short',
    expected: 'ERR_LIMITER_OPTION',
    fits: ({ group }) => group !== undefined && group.size > 0,
    act: ({ group }) => group?.check(1, new Uint8Array((group.size as number) - 1)),
  },
  {
    kind: 'invalid snapshot',
    expected: 'ERR_LIMITER_SNAPSHOT',
    act: ({ limiter }, random) => limiter.restore(random.pick(NO_SNAPSHOTS)),
  },
  {
    kind: 'damaged snapshot entry',
    expected: 'ERR_LIMITER_SNAPSHOT',
    act({ limiter }, random) {
      const snapshot = limiter.snapshot();
      return limiter.restore({
        ...snapshot,
        peers: [...validEntries(random), damagedEntry(random)],
      });
    },
  },
];

/** Injects one fault and returns its kind. @throws Difference if the call does not fail as expected. */
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

/** Returns valid entries. Because the entry after them is damaged, none of them may be restored. */
function validEntries(random: Random): SnapshotEntry[] {
  return Array.from({ length: random.below(20) }, (_, i) => ({
    key: `of a damaged snapshot ${i}`,
    violations: 7,
    banSecondsLeft: null,
    idleSeconds: 1,
    bucket: null,
  }));
}

function damagedEntry(random: Random): unknown {
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
