// The options of a PolicyLimiter, of its calls, and of requests by fetch or undici: their types, checks and
// defaults.

import type { Clock } from '../common/clock.js';
import { invalidNumber, invalidValue, limiterError, show } from '../common/errors.js';
import { hasMethods, isArray, isRecord } from '../common/kinds.js';
import { callback, count, nonNegative, positive, readOptions } from '../common/options.js';
import type { RateLimitInfo } from '../headers/types.js';
import { type Costs, readCost } from './cost.js';
import { type Lease, QuotaLease } from './lease.js';
import { type Algorithm, type Policy, readPolicies } from './policies.js';
import type { QueuedRequest, QueueOptions } from './queue.js';
import type { ServerPolicyOptions } from './server-policy.js';

/** The options of a `PolicyLimiter`. */
export interface PolicyLimiterOptions {
  /** The quotas, at least one. The limiter obeys all of them at the same time. */
  policies: readonly Policy[];
  /**
   * How windows are counted. `bucket` (default): one token bucket per window; constant memory, evenly spread.
   * `sliding`: an exact sliding log; requests are sent as fast as the quotas allow, with pauses, so that a
   * program is done sooner (docs/client.md has figures). Both never
   * exceed a quota in any interval of its window. `fixed`: fixed windows as in aiohivebot, for comparison.
   */
  algorithm?: Algorithm | undefined;
  /**
   * The share of a quota that can be sent in one burst, by `bucket` and by the common limits of a `PolicyLimiterGroup`; at
   * least 0 (no bursts, evenly one at a time), below 1. Default: 0.1. A larger share makes the first minute faster and the
   * long run slower.
   */
  burstShare?: number | undefined;
  /**
   * The longest wait that a server can cause, in seconds, greater than 0. After it the limiter sends one
   * request as a probe. Default: 600, and a day until a reset on which responses have agreed for 10 seconds.
   */
  maxWaitSeconds?: number | undefined;
  /**
   * The largest difference in seconds between the times that two requests need to reach the server; at least
   * 0. The limiter makes all windows longer by it. Default: with `sliding` it is measured, as the difference between the
   * slowest and the fastest recent answer to a lease, at most 0.1; else 0.
   */
  jitterSeconds?: number | undefined;
  /** The maximum number of leases that are open at the same time, at least 1. Default: no limit. */
  maxConcurrent?: number | undefined;
  /** The maximum number of waiting `acquire` calls. Default: 10,000. */
  maxQueue?: number | undefined;
  /**
   * What happens to an `acquire` call if `maxQueue` calls wait already. `reject` (default): it rejects with
   * `ERR_LIMITER_QUEUE`. `wait`: it waits for a place in the queue, first in, first out, and has its priority once it
   * has one. `ready` tells a producer when there is a place.
   */
  onFull?: 'reject' | 'wait' | undefined;
  /**
   * Another limiter whose quota every request takes too, at the same moment: a limit that several limiters share.
   * No quota of either is held while a request waits for the other. Default: none.
   */
  within?: OuterLimiter | undefined;
  /** Seconds of waiting that weigh as much as one step of priority; at least 0. Default: 10. */
  agingSeconds?: number | undefined;
  /** Returns monotonic seconds. Each call reads it once. Default: `performance.now() / 1000`. */
  clock?: (() => number) | undefined;
  /** Returns seconds since 1970, for snapshots. Default: `Date.now() / 1000`. */
  wallClock?: (() => number) | undefined;
  /** Returns a number of at least 0 and below 1, for jitter and backoff. Default: `Math.random`. */
  random?: (() => number) | undefined;
}

/** The options of `PolicyLimiter.acquire`. */
export interface AcquireOptions {
  /**
   * Units: finite, at least 0, at most the smallest quota. A number counts requests; an object has amounts by unit,
   * such as `{ tokens: 900 }`, and costs one request unless it says otherwise. All amounts are taken, or none.
   * Default: 1.
   */
  cost?: number | Costs | undefined;
  /** Higher priorities are served first; any finite number. Default: 0. */
  priority?: number | undefined;
  /** When it aborts, the call leaves the queue and rejects with the signal's reason; nothing is spent. */
  signal?: AbortSignal | undefined;
  /** The deadline in seconds from the call; at least 0. Default: none. */
  deadlineSeconds?: number | undefined;
  /** Another limiter whose quota this request takes too, at the same moment. Default: none. */
  within?: OuterLimiter | undefined;
}

/** A `PolicyLimiter` whose quota the requests of other limiters take too; see the option `within`. */
export interface OuterLimiter {
  /** See `PolicyLimiter.tryLease`. */
  tryLease(cost?: number | Costs, options?: Pick<AcquireOptions, 'within'>): Lease | null;
  /** See `PolicyLimiter.acquire`. */
  acquire(options?: AcquireOptions): Promise<Lease>;
  /** See `PolicyLimiter.delaySeconds`. */
  delaySeconds(cost?: number | Costs): number;
  /** See `PolicyLimiter.remaining`. */
  remaining(unit?: string): number;
  /** See `PolicyLimiter.update`. */
  update(info: RateLimitInfo, status?: number, context?: UpdateContext): void;
}

/** What `update` may receive about a response, besides its status and its rate limits. */
export interface UpdateContext {
  /**
   * The lease of the answered request. With it the limiter knows which requests were sent since then;
   * without it, it assumes the worst case.
   */
  lease?: Lease | undefined;
  /**
   * The response's `Age` in seconds. A response that a cache has kept (`Age` above 0) changes nothing, unless it is a
   * refusal, which is obeyed less its age. Default: 0.
   */
  ageSeconds?: number | undefined;
  /**
   * Whether the response refuses the request because there were too many. Default: true for the statuses 429 and 503,
   * and for 403 with `Retry-After` or with a limit of which nothing remains.
   */
  refused?: boolean | undefined;
  /** Policies that the problem body names as violated: `Retry-After` then blocks only those. Default: none. */
  violated?: readonly string[] | undefined;
  /** The size of the body in bytes, for quotas in `content-bytes`. Default: 0. */
  contentBytes?: number | undefined;
  /** Whether the response is about the limits of the limiter `within` and not of this one. Default: false. */
  within?: boolean | undefined;
}

/** The request that the options `cost` and `priority` receive. */
export interface LimitedRequest {
  /** The URL as the caller gave it; it may be relative. */
  readonly url: string;
  /** The method in upper case. */
  readonly method: string;
  /** The body as the caller gave it; undefined without one, and for that of a `Request`, which is a stream. */
  readonly body?: unknown;
}

/** Options that `limitFetch` and `limitInterceptor` have in common. */
export interface RequestOptions {
  /** Returns the units that a request costs; see `AcquireOptions.cost`. Default: 1. */
  cost?: ((request: LimitedRequest) => number | Costs) | undefined;
  /**
   * With a `PolicyLimiterGroup`: returns the key of a request. Default: the host of its URL, with the port if that is
   * not the protocol's own.
   */
  key?: ((request: LimitedRequest) => string) | undefined;
  /** Returns the priority of a request; see `AcquireOptions.priority`. Default: 0. */
  priority?: ((request: LimitedRequest) => number) | undefined;
  /** The deadline in seconds; at least 0. Default: none. */
  deadlineSeconds?: number | undefined;
}

/** Validated options. @internal */
export interface LimiterSettings extends ServerPolicyOptions, QueueOptions {
  readonly policies: readonly Policy[];
  readonly pacedSeconds: number;
  /** Undefined if it is to be measured. */
  readonly jitterSeconds: number | undefined;
  readonly maxConcurrent: number;
  readonly within: OuterLimiter | undefined;
  readonly clock: Clock;
  readonly wallClock: Clock;
}

/** A request to a limiter, which may need the quota of another one too. @internal */
export interface LimiterRequest extends QueuedRequest {
  readonly within: OuterLimiter | undefined;
}

/** The names of the options of a PolicyLimiter. */
export const LIMITER_OPTIONS = [
  'policies',
  'algorithm',
  'burstShare',
  'maxWaitSeconds',
  'jitterSeconds',
  'maxConcurrent',
  'maxQueue',
  'onFull',
  'within',
  'agingSeconds',
  'clock',
  'wallClock',
  'random',
];
/** The names of `RequestOptions`. */
export const REQUEST_OPTIONS = ['cost', 'key', 'priority', 'deadlineSeconds'];
const ALGORITHMS: readonly unknown[] = ['bucket', 'sliding', 'fixed'];

/** @throws ERR_LIMITER_OPTION @internal */
export function readLimiterOptions(options: unknown, pacedSeconds = 0): LimiterSettings {
  const given = readOptions('PolicyLimiter', options, LIMITER_OPTIONS);
  const policies = readPolicies(given['policies']);
  const { algorithm = 'bucket' } = given;
  if (!ALGORITHMS.includes(algorithm)) {
    throw invalidValue(
      'ERR_LIMITER_OPTION',
      'algorithm',
      algorithm,
      "'bucket', 'sliding' or 'fixed'",
    );
  }
  const burstShare = nonNegative(given, 'burstShare', 0.1);
  if (burstShare >= 1) {
    const accepted =
      "at least 0 and below 1 (for whole quotas in one burst use algorithm 'sliding')";
    throw invalidNumber('ERR_LIMITER_OPTION', 'burstShare', burstShare, accepted);
  }
  return {
    policies,
    algorithm: algorithm as Algorithm,
    burstShare,
    pacedSeconds,
    maxWaitSeconds: positive(given, 'maxWaitSeconds', 600),
    maxConfirmedWaitSeconds: positive(given, 'maxWaitSeconds', 86_400),
    jitterSeconds: readJitter(given, algorithm),
    ...readBounds(given),
    within: readWithin(given),
    agingSeconds: nonNegative(given, 'agingSeconds', 10),
    // The default clocks look up their functions at each call, because tests replace them.
    clock: callback<Clock>(given, 'clock') ?? (() => performance.now() / 1000),
    wallClock: callback<Clock>(given, 'wallClock') ?? (() => Date.now() / 1000),
    random: callback<() => number>(given, 'random') ?? Math.random,
  };
}

function readJitter(given: Readonly<Record<string, unknown>>, algorithm: unknown) {
  const isMeasured = algorithm === 'sliding' && given['jitterSeconds'] === undefined;
  return isMeasured ? undefined : nonNegative(given, 'jitterSeconds', 0);
}

function readBounds(given: Readonly<Record<string, unknown>>) {
  const { onFull = 'reject', maxConcurrent = Infinity } = given;
  if (onFull !== 'reject' && onFull !== 'wait') {
    throw invalidValue('ERR_LIMITER_OPTION', 'onFull', onFull, "'reject' or 'wait'");
  }
  const maxQueue = count(given, 'maxQueue', 10_000);
  if (maxQueue === 0 && onFull === 'wait') {
    const accepted = "at least 1 if onFull is 'wait'";
    throw invalidNumber('ERR_LIMITER_OPTION', 'maxQueue', maxQueue, accepted);
  }
  if (
    maxConcurrent !== Infinity &&
    !(Number.isSafeInteger(maxConcurrent) && Number(maxConcurrent) > 0)
  ) {
    const accepted = 'a whole number of at least 1, or Infinity';
    throw invalidNumber('ERR_LIMITER_OPTION', 'maxConcurrent', maxConcurrent, accepted);
  }
  return { onFull, maxQueue, maxConcurrent: maxConcurrent as number } as const;
}

/** The names of the options of `acquire`. */
export const ACQUIRE_OPTIONS = ['cost', 'priority', 'signal', 'deadlineSeconds', 'within'];

/** @throws ERR_LIMITER_OPTION, ERR_LIMITER_COST @internal */
export function readAcquireOptions(options: unknown): LimiterRequest {
  const given = readOptions('acquire', options, ACQUIRE_OPTIONS);
  const { priority = 0, signal } = given;
  const cost = given['cost'] === undefined ? 1 : readCost(given['cost']);
  if (!Number.isFinite(priority)) {
    throw invalidNumber('ERR_LIMITER_OPTION', 'priority', priority, 'a finite number');
  }
  if (signal !== undefined && !isSignal(signal)) {
    throw invalidValue('ERR_LIMITER_OPTION', 'signal', signal, 'an AbortSignal');
  }
  return {
    cost,
    priority: priority as number,
    signal,
    deadlineSeconds: readDeadline(given),
    within: readWithin(given),
  };
}

/** The request of a call without options. @throws ERR_LIMITER_COST @internal */
export function anytime(cost: number | Costs): LimiterRequest {
  return {
    cost: readCost(cost),
    priority: 0,
    signal: undefined,
    deadlineSeconds: Infinity,
    within: undefined,
  };
}

// Checked by its methods, because the class imports this file.
function readWithin({ within }: Readonly<Record<string, unknown>>): OuterLimiter | undefined {
  if (within === undefined || hasMethods(within, 'tryLease', 'acquire', 'delaySeconds')) {
    return within as OuterLimiter | undefined;
  }
  throw invalidValue('ERR_LIMITER_OPTION', 'within', within, 'a PolicyLimiter');
}

/** @throws ERR_LIMITER_OPTION */
export function requireInfo(info: unknown, status: unknown): void {
  const { policies, limits }: Partial<RateLimitInfo> = isRecord(info) ? info : {};
  if (!isArray(policies) || !isArray(limits)) {
    const accepted = 'a RateLimitInfo, as parseRateLimitHeaders returns it';
    throw invalidValue('ERR_LIMITER_OPTION', 'info', info, accepted);
  }
  if (status !== undefined && !Number.isInteger(status)) {
    throw invalidNumber('ERR_LIMITER_OPTION', 'status', status, 'a status code');
  }
}

/** The names of the fields of `UpdateContext`. */
export const UPDATE_OPTIONS = [
  'lease',
  'ageSeconds',
  'refused',
  'violated',
  'contentBytes',
  'within',
];

/** @throws ERR_LIMITER_OPTION */
export function readUpdateContext(context: unknown) {
  const given = readOptions('update', context, UPDATE_OPTIONS);
  const { lease, refused, violated = [], within = false } = given;
  if (lease !== undefined && !(lease instanceof QuotaLease)) {
    throw invalidValue('ERR_LIMITER_OPTION', 'lease', lease, 'a lease of a PolicyLimiter');
  }
  if (!isArray(violated) || violated.some((name) => typeof name !== 'string')) {
    throw invalidValue('ERR_LIMITER_OPTION', 'violated', violated, 'an array of names');
  }
  if (refused !== undefined && typeof refused !== 'boolean') {
    throw invalidValue('ERR_LIMITER_OPTION', 'refused', refused, 'true or false');
  }
  if (typeof within !== 'boolean') {
    throw invalidValue('ERR_LIMITER_OPTION', 'within', within, 'true or false');
  }
  return {
    lease,
    refused,
    within,
    violated: violated as string[],
    ageSeconds: nonNegative(given, 'ageSeconds', 0),
    contentBytes: nonNegative(given, 'contentBytes', 0),
  };
}

/** @throws ERR_LIMITER_OPTION */
export function readRequestOptions(given: Readonly<Record<string, unknown>>) {
  return {
    cost: callback<(request: LimitedRequest) => number | Costs>(given, 'cost') ?? (() => 1),
    key: callback<(request: LimitedRequest) => string>(given, 'key') ?? hostOf,
    priority: callback<(request: LimitedRequest) => number>(given, 'priority') ?? (() => 0),
    deadlineSeconds: readDeadline(given),
  };
}

/** @throws ERR_LIMITER_OPTION */
export function requireFunction(given: unknown, name: string): void {
  if (typeof given === 'function') return;
  throw invalidValue('ERR_LIMITER_OPTION', name, given, 'a function');
}

/** Returns the host of a request; an empty string for a relative URL. */
function hostOf({ url }: LimitedRequest): string {
  return URL.canParse(url) ? new URL(url).host : '';
}

function readDeadline({ deadlineSeconds = Infinity }: Readonly<Record<string, unknown>>): number {
  if (typeof deadlineSeconds === 'number' && deadlineSeconds >= 0) return deadlineSeconds;
  const accepted = 'a number of at least 0';
  throw invalidNumber('ERR_LIMITER_OPTION', 'deadlineSeconds', deadlineSeconds, accepted);
}

// Accepts signals of another realm too, which `instanceof` would not.
function isSignal(value: unknown): value is AbortSignal {
  return typeof (value as AbortSignal | null)?.aborted === 'boolean' && 'onabort' in Object(value);
}

/** Returns the error for a cost above `maxCost`, which can never be taken. `reason` names that limit. */
export function costTooHigh(cost: number, maxCost: number, reason: string): Error {
  const message = `a cost must be at most ${reason}, ${show(maxCost)}, got ${show(cost)}`;
  return limiterError(RangeError, 'ERR_LIMITER_COST', message);
}
