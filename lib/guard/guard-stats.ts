// The counts of a guard: numbers by reason, nothing by key. An allowed message costs one addition.

import { invalidValue, show } from '../common/errors.js';
import { hasMethods, isRecord } from '../common/kinds.js';
import type { ConnectionReason, MessageReason } from './verdicts.js';

/** Numbers by the reason of a verdict. Reasons that are usual for the guard are there from the start, with 0. */
export type CountsByReason = Readonly<Record<string, number>>;

/** The counts of a guard since it was made. The numbers of open and of paused connections are those of now. */
export interface GuardStats {
  readonly connections: {
    /** Connections that are guarded now. */
    readonly open: number;
    /** Connections from which the guard does not read now, because a message waits for a limit. */
    readonly paused: number;
    /** Connections that passed. */
    readonly accepted: number;
    /** Connections that were refused. */
    readonly refused: CountsByReason;
    /** Connections that the guard closed, or that the server's own code closed by `expel`. */
    readonly closed: CountsByReason;
  };
  readonly messages: {
    /** Messages that passed, and pings and pongs, which limits count like messages. */
    readonly passed: number;
    /** Messages that had to wait. Those that passed later are in `passed` too. */
    readonly delayed: number;
    /** Messages that were discarded. A message for which the connection was closed is not among them. */
    readonly dropped: CountsByReason;
  };
  /** Only guards that send messages have it: what became of the messages. */
  readonly deliveries?: {
    readonly sent: number;
    /** Messages that were dropped because the connection did not read fast enough. */
    readonly droppedSlow: number;
    /** Messages that the limiter of deliveries refused. */
    readonly droppedRate: number;
  };
}

/** ObservableGuard is a guard, or an object with its method. */
export interface ObservableGuard {
  /** Returns what the guard has counted. Changes nothing. O(1). */
  getStats(): GuardStats;
}

/** Guards by the names under which they are shown. */
export type NamedGuards = Readonly<Record<string, ObservableGuard>>;

// Prometheus sees the first event of a series only if the series had the value 0 before.
const REFUSED: readonly ConnectionReason[] = ['ban', 'concurrency', 'rate', 'denied', 'error'];
const CLOSED: readonly MessageReason[] = ['disconnect', 'expelled', 'error'];
const DROPPED: readonly MessageReason[] = ['rate', 'cost'];

export interface ConnectionOutcome {
  readonly did: string;
  readonly reason?: string | undefined;
}

/** Counts the decisions of one guard. */
export class GuardCounters {
  /** Messages that passed. */
  passed = 0;
  /** Connections that are paused now. */
  paused = 0;
  #accepted = 0;
  #delayed = 0;
  readonly #refused = countsOf(REFUSED);
  readonly #closed = countsOf(CLOSED);
  readonly #dropped = countsOf(DROPPED);

  /** Counts a decision on a connection, which passed, was refused or was closed. */
  countConnection({ did, reason = 'error' }: ConnectionOutcome): void {
    if (did === 'passed') this.#accepted += 1;
    else if (did === 'refused') increment(this.#refused, reason);
    else this.countClosed(reason);
  }

  countClosed(reason: string): void {
    increment(this.#closed, reason);
  }

  /** Counts a message that was dropped or has to wait. */
  countRefusal(outcome: 'dropped' | 'paused' | 'closed', reason: string): void {
    if (outcome === 'dropped') increment(this.#dropped, reason);
    else if (outcome === 'paused') this.#delayed += 1;
  }

  /** `open`: the number of open connections. */
  stats(open: number): GuardStats {
    return {
      connections: {
        open,
        paused: this.paused,
        accepted: this.#accepted,
        refused: Object.fromEntries(this.#refused),
        closed: Object.fromEntries(this.#closed),
      },
      messages: {
        passed: this.passed,
        delayed: this.#delayed,
        dropped: Object.fromEntries(this.#dropped),
      },
    };
  }
}

/** Reads an option with guards by name. @throws `ERR_LIMITER_OPTION` @internal */
export function namedGuards(given: unknown): [name: string, guard: ObservableGuard][] {
  if (given === undefined) return [];
  if (!isRecord(given)) {
    throw invalidValue('ERR_LIMITER_OPTION', 'guards', given, 'an object with guards, by name');
  }
  return Object.entries(given).map(([name, guard]) => {
    if (isGuard(guard)) return [name, guard];
    throw invalidValue('ERR_LIMITER_OPTION', `guards[${show(name)}]`, guard, 'a guard');
  });
}

/** Limiters have a `getStats` too, with other results. */
function isGuard(value: unknown): value is ObservableGuard {
  if (!hasMethods(value, 'getStats')) return false;
  const stats: unknown = (value as ObservableGuard).getStats();
  return isRecord(stats) && isRecord(stats['connections']) && isRecord(stats['messages']);
}

function countsOf(reasons: readonly string[]): Map<string, number> {
  return new Map(reasons.map((reason) => [reason, 0]));
}

function increment(counts: Map<string, number>, reason: string): void {
  counts.set(reason, (counts.get(reason) ?? 0) + 1);
}
