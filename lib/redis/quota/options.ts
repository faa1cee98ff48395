// The options of a SharedPolicyLimiter: their types, validation and defaults.

import {
  LIMITER_OPTIONS,
  type PolicyLimiterOptions,
  readLimiterOptions,
} from '../../client/options.js';
import { type Policy, unitOf } from '../../client/policies.js';
import type { Clock } from '../../common/clock.js';
import { invalidValue } from '../../common/errors.js';
import { positive, readOptions } from '../../common/options.js';
import type { FailurePolicy } from '../limit/options.js';
import { readChoice, readNodes } from '../limit/options.js';
import { readLeaseSeconds, readPrefix } from '../store/options.js';
import type { RedisClient } from '../store/redis-client.js';
import type { QuotaCall } from './quota-script.js';

/** Options of a `SharedPolicyLimiter`: those of a `PolicyLimiter`, and those of the store. */
export interface SharedPolicyLimiterOptions
  extends Omit<PolicyLimiterOptions, 'algorithm' | 'within'> {
  /** A client of node-redis or ioredis, connected or connecting. You close it yourself. */
  client: RedisClient;
  /**
   * The name of the quota: 1 to 100 characters without braces. All processes with this name share it, so give each API
   * and account a name of its own.
   */
  name: string;
  /** What all keys begin with: 1 to 100 characters without braces. Default: `relay-limiter`. */
  prefix?: string | undefined;
  /**
   * How requests are spread. `bucket` (default): evenly, with bursts of `burstShare`. `sliding`: as fast as the quotas allow,
   * with pauses. With both, no interval of a window's length contains more than its quota, over all processes.
   */
  algorithm?: 'bucket' | 'sliding' | undefined;
  /**
   * The largest difference in seconds between the times that two requests need to reach the server; at least 0. All windows
   * are longer by it. Default: 0.
   */
  jitterSeconds?: number | undefined;
  /**
   * Seconds for which a process may hold quota that it has not spent, at least twice `deadlineSeconds`. It returns what it does
   * not need earlier than that; what a process holds that dies counts as spent. Default: the shortest window, but
   * at most 5, and at least twice `deadlineSeconds`.
   */
  leaseSeconds?: number | undefined;
  /** Seconds after which the store counts as not answering, greater than 0. Default: 1. */
  deadlineSeconds?: number | undefined;
  /**
   * What is sent while the store does not answer. `share` (default): each process spreads its part of the quotas evenly.
   * `open`: each process takes the whole quotas. `closed`: nothing but what is on lease; requests wait.
   */
  onStoreFailure?: FailurePolicy | undefined;
  /**
   * For `share`: the least number of processes that share the quota, at least 1. If more were seen within the last five
   * minutes, their number counts. Default: 1.
   */
  nodes?: number | undefined;
}

/** Validated options of the shared part. @internal */
export interface SharedQuotaConfig {
  readonly client: RedisClient;
  readonly name: string;
  readonly prefix: string;
  readonly policies: readonly Policy[];
  readonly algorithm: 'bucket' | 'sliding';
  readonly burstShare: number;
  readonly jitterSeconds: number;
  readonly agingSeconds: number;
  /** Undefined if it follows from the policies. */
  readonly leaseSeconds: number | undefined;
  readonly deadlineSeconds: number;
  readonly onStoreFailure: FailurePolicy;
  readonly nodes: number;
  /** The user's clock. */
  readonly clock: Clock | undefined;
}

type Given = Readonly<Record<string, unknown>>;

const STORE_OPTIONS = [
  'client',
  'name',
  'prefix',
  'leaseSeconds',
  'deadlineSeconds',
  'onStoreFailure',
  'nodes',
];
const POLICIES = ['share', 'open', 'closed'] as const;
const MAX_LEASE_SECONDS = 5;

/**
 * Returns the options of the shared quota, and those of the limiter of this process.
 * @throws ERR_LIMITER_OPTION @internal
 */
export function readSharedPolicyOptions(options: unknown): {
  quota: SharedQuotaConfig;
  own: PolicyLimiterOptions;
} {
  const names = [...LIMITER_OPTIONS.filter((name) => name !== 'within'), ...STORE_OPTIONS];
  const given = readOptions('SharedPolicyLimiter', options, names);
  const { algorithm = 'bucket' } = given;
  if (algorithm !== 'bucket' && algorithm !== 'sliding') {
    throw invalidValue('ERR_LIMITER_OPTION', 'algorithm', algorithm, "'bucket' or 'sliding'");
  }
  const own: Record<string, unknown> = {};
  for (const name of LIMITER_OPTIONS) if (given[name] !== undefined) own[name] = given[name];
  const settings = readLimiterOptions({ ...own, algorithm });
  const deadlineSeconds = positive(given, 'deadlineSeconds', 1);
  const quota: SharedQuotaConfig = {
    client: given['client'] as RedisClient,
    name: readName(given),
    prefix: readPrefix(given),
    policies: settings.policies,
    algorithm,
    burstShare: settings.burstShare,
    jitterSeconds: settings.jitterSeconds ?? 0,
    agingSeconds: settings.agingSeconds,
    leaseSeconds: readLeaseSeconds(given, deadlineSeconds),
    deadlineSeconds,
    onStoreFailure: readChoice(given, 'onStoreFailure', POLICIES),
    nodes: readNodes(given),
    clock: given['clock'] as Clock | undefined,
  };
  // The shared windows decide. Those of this process are the same or wider, and hold without the store, too.
  const unpaced = { algorithm: 'sliding', burstShare: undefined, jitterSeconds: 0 } as const;
  return { quota, own: { ...(own as unknown as PolicyLimiterOptions), ...unpaced } };
}

/** A window of the store. @internal */
export type QuotaWindow = QuotaCall['windows'][number];

/**
 * Returns the windows that the store counts: that of each policy and, to spread requests evenly, a short one with a part of
 * the quota. No window is left out, so the short ones can only make the limit stricter. @internal
 */
export function windowsOf(
  policies: readonly Policy[],
  { algorithm, burstShare, jitterSeconds }: SharedQuotaConfig,
): QuotaWindow[] {
  const windows = new Map<string, QuotaWindow>();
  const add = (quota: number, seconds: number, unit: string) => {
    const key = `${seconds} ${unit}`;
    windows.set(key, {
      quota: Math.min(quota, windows.get(key)?.quota ?? Infinity),
      seconds,
      unit,
    });
  };
  for (const policy of policies) {
    const { quota, windowSeconds } = policy;
    add(quota, windowSeconds + jitterSeconds, unitOf(policy));
    const part = Math.max(1, Math.floor(quota * burstShare));
    if (algorithm === 'sliding' || part >= quota) continue;
    add(part, (windowSeconds * part) / quota, unitOf(policy));
  }
  return [...windows.values()];
}

/** The lifetime of a lease if the user gives none. @internal */
export function defaultLeaseSeconds(policies: readonly Policy[], deadlineSeconds: number): number {
  const shortest = Math.min(...policies.map(({ windowSeconds }) => windowSeconds));
  return Math.max(2 * deadlineSeconds, Math.min(shortest, MAX_LEASE_SECONDS));
}

function readName({ name }: Given): string {
  if (typeof name === 'string' && /^[^{}]{1,100}$/.test(name)) return name;
  const accepted = 'a string of 1 to 100 characters without braces';
  throw invalidValue('ERR_LIMITER_OPTION', 'name', name, accepted);
}
