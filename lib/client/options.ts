// The options of a PolicyLimiter and of its calls, checked and with their defaults.

import type { Clock } from '../common/clock.js';
import { limiterError, refused, refusedNumber, show } from '../common/errors.js';
import {
  callback,
  count,
  nonNegative,
  positive,
  readOptions,
  requireCost,
} from '../common/options.js';
import { type Policy, readPolicies } from './policies.js';
import type { QueueOptions, Request } from './queue.js';
import type { ServerOptions } from './server-policy.js';
import type { Algorithm } from './windows/index.js';

export interface PolicyLimiterOptions {
  /** At least one; each holds at all times. */
  policies: readonly Policy[];
  /**
   * How windows are counted. `bucket` (the default): a token bucket for each, constant memory, evenly
   * spread. `sliding`: exact, and as fast as the quotas allow, pauses included. Neither exceeds a quota
   * in any interval of its window. `fixed`: as aiohivebot does, for comparison.
   */
  algorithm?: Algorithm | undefined;
  /**
   * `bucket`: the share of a quota that may go at once; at least 0 (evenly, one at a time), below 1.
   * Default 0.1. More of it makes the first minute faster, and the long run slower.
   */
  burstShare?: number | undefined;
  /** Longest wait for a server's sake, in seconds, greater than 0: then one request asks. Default 600. */
  maxWaitSeconds?: number | undefined;
  /**
   * How many seconds later, at most, one request may reach the server than another does; at least 0.
   * Windows are taken to be longer by so much. Default 0.
   */
  jitterSeconds?: number | undefined;
  /** Most `acquire` calls that wait at once. Default 10,000. */
  maxQueue?: number | undefined;
  /** Seconds of waiting that weigh as much as one step of priority; at least 0. Default 10. */
  agingSeconds?: number | undefined;
  /** Monotonic seconds, read once a call. Default: `performance.now() / 1000`. */
  clock?: (() => number) | undefined;
  /** Seconds since 1970, for snapshots. Default: `Date.now() / 1000`. */
  wallClock?: (() => number) | undefined;
  /** At least 0, below 1, for jitter and backoff. Default: `Math.random`. */
  random?: (() => number) | undefined;
}

export interface AcquireOptions {
  /** Units; finite, at least 0, at most the smallest quota. Default 1. */
  cost?: number | undefined;
  /** The higher goes first; any finite number. Default 0. */
  priority?: number | undefined;
  /** Leaves the queue when aborted; `acquire` rejects with its reason, nothing spent. */
  signal?: AbortSignal | undefined;
  /** Seconds from now after which it is too late; at least 0. Default: never. */
  deadlineSeconds?: number | undefined;
}

export interface Settings extends ServerOptions, QueueOptions {
  readonly policies: readonly Policy[];
  readonly jitterSeconds: number;
  readonly clock: Clock;
  readonly wallClock: Clock;
}

/** Their names. */
export const LIMITER_OPTIONS = [
  'policies',
  'algorithm',
  'burstShare',
  'maxWaitSeconds',
  'jitterSeconds',
  'maxQueue',
  'agingSeconds',
  'clock',
  'wallClock',
  'random',
];
const ALGORITHMS: readonly unknown[] = ['bucket', 'sliding', 'fixed'];

/** @throws `ERR_LIMITER_OPTION` */
export function readSettings(options: unknown): Settings {
  const given = readOptions('PolicyLimiter', options, LIMITER_OPTIONS);
  const policies = readPolicies(given['policies']);
  const { algorithm = 'bucket' } = given;
  if (!ALGORITHMS.includes(algorithm)) {
    throw refused('ERR_LIMITER_OPTION', 'algorithm', algorithm, "'bucket', 'sliding' or 'fixed'");
  }
  const burstShare = nonNegative(given, 'burstShare', 0.1);
  if (burstShare >= 1) {
    const accepted = "at least 0 and below 1 (all at once is algorithm 'sliding')";
    throw refusedNumber('ERR_LIMITER_OPTION', 'burstShare', burstShare, accepted);
  }
  return {
    policies,
    algorithm: algorithm as Algorithm,
    burstShare,
    maxWaitSeconds: positive(given, 'maxWaitSeconds', 600),
    jitterSeconds: nonNegative(given, 'jitterSeconds', 0),
    maxQueue: count(given, 'maxQueue', 10_000),
    agingSeconds: nonNegative(given, 'agingSeconds', 10),
    // Looked up when called, since tests replace them.
    clock: callback<Clock>(given, 'clock') ?? (() => performance.now() / 1000),
    wallClock: callback<Clock>(given, 'wallClock') ?? (() => Date.now() / 1000),
    random: callback<() => number>(given, 'random') ?? Math.random,
  };
}

/** @throws `ERR_LIMITER_OPTION`, `ERR_LIMITER_COST` */
export function readRequest(options: unknown): Request {
  const given = readOptions('acquire', options, ['cost', 'priority', 'signal', 'deadlineSeconds']);
  const { cost = 1, priority = 0, signal } = given;
  requireCost(cost);
  if (!Number.isFinite(priority)) {
    throw refusedNumber('ERR_LIMITER_OPTION', 'priority', priority, 'a finite number');
  }
  if (signal !== undefined && !isSignal(signal)) {
    throw refused('ERR_LIMITER_OPTION', 'signal', signal, 'an AbortSignal');
  }
  return { cost, priority: priority as number, signal, deadlineSeconds: readDeadline(given) };
}

/** @throws `ERR_LIMITER_OPTION` */
export function readDeadline({ deadlineSeconds = Infinity }: Record<string, unknown>): number {
  if (typeof deadlineSeconds === 'number' && deadlineSeconds >= 0) return deadlineSeconds;
  const accepted = 'a number of at least 0';
  throw refusedNumber('ERR_LIMITER_OPTION', 'deadlineSeconds', deadlineSeconds, accepted);
}

// Those of another realm too.
function isSignal(value: unknown): value is AbortSignal {
  return typeof (value as AbortSignal | null)?.aborted === 'boolean' && 'onabort' in Object(value);
}

/** The error for a cost that can never go. */
export function costTooHigh(cost: number, most: number): Error {
  const message = `a cost must be at most the smallest quota, ${show(most)}, got ${show(cost)}`;
  return limiterError(RangeError, 'ERR_LIMITER_COST', message);
}
