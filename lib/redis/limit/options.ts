// The options of a SharedRateLimiter: their types, validation and defaults.

import type { Clock } from '../../common/clock.js';
import { invalidValue } from '../../common/errors.js';
import {
  burst,
  commonOptions,
  count,
  countOrNull,
  positive,
  readOptions,
} from '../../common/options.js';
import type { EngineName } from '../../common/types.js';
import { type Limit, leaseLifetimes } from '../store/limit.js';
import { readDeadline, readLeaseSeconds, readPrefix } from '../store/options.js';
import type { RedisClient } from '../store/redis-client.js';
import type { ChangeableLimit, LimitChange } from './changeable-limit.js';

/**
 * How a `SharedRateLimiter` uses the store. `leased`: nodes lease tokens ahead of their use and spend them without
 * calling the store. `strict`: every check calls the store. `local`: there is no store; the limit is this process's
 * only.
 */
export type SharedMode = 'leased' | 'strict' | 'local';

/**
 * What decides checks while the store does not answer. `share`: each node grants the rate divided by the number of
 * nodes. `open`: everything is allowed. `closed`: only tokens that are on lease are granted.
 */
export type FailurePolicy = 'share' | 'open' | 'closed';

/** Options of a `SharedRateLimiter`. All processes need the same limit, `leaseSeconds` and `deadlineSeconds`. */
export interface SharedRateLimiterOptions {
  /** A client of node-redis or ioredis, connected or connecting; not needed in mode `local`. You close it yourself. */
  client?: RedisClient | undefined;
  /** `leased`, `strict` or `local`. Default `leased`. */
  mode?: SharedMode | undefined;
  /** Tokens per second that each peer gets from all nodes together, greater than 0. Default 10. */
  rateLimit?: number | undefined;
  /** The most tokens that a peer saves up, at least 1. Default, also for null and 0: 10 × `rateLimit`, at least 1. */
  burstLimit?: number | null | undefined;
  /**
   * The number of violations, counted by all nodes, from which a refusal is DISCONNECT; 0 or 1: from the first refusal.
   * Default null: never.
   */
  disconnectThreshold?: number | null | undefined;
  /** What all keys begin with: 1 to 100 characters without braces. One for each limit. Default `rl`. */
  prefix?: string | undefined;
  /** Seconds for which tokens are leased, at least twice `deadlineSeconds`. Default 30, or that if it is more. */
  leaseSeconds?: number | undefined;
  /** Seconds after which a check no longer waits for the store, greater than 0. Default 0.1. */
  deadlineSeconds?: number | undefined;
  /** What decides while the store does not answer: `share`, `open` or `closed`. Default `share`. */
  onStoreFailure?: FailurePolicy | undefined;
  /**
   * For `share`: the least number of processes that share the limit, at least 1. If more were seen within the last five
   * minutes, their number counts. Default 1: a process that starts while the store is down then grants the whole rate.
   */
  nodes?: number | undefined;
  /** The most peers kept in this process: an integer of at least 1, or Infinity. Default 1,000,000. */
  maxPeers?: number | undefined;
  /** Monotonic seconds, by which leases and refusals end. Default: the engine's own clock. */
  clock?: (() => number) | undefined;
  /**
   * The engine for buckets (mode `local`) or leases (mode `leased`). Default: the environment variable
   * `RELAY_LIMITER_ENGINE`, otherwise `auto`.
   */
  engine?: 'auto' | EngineName | undefined;
}

/** What `SharedRateLimiter.update` changes; what is left out stays as it is. */
export interface SharedLimitChange {
  /** Tokens per second that each peer gets from all nodes together, greater than 0. */
  rateLimit?: number | undefined;
  /** The most tokens that a peer saves up, at least 1; for null and 0: 10 × `rateLimit`, at least 1. */
  burstLimit?: number | null | undefined;
  /** The number of violations from which a refusal is DISCONNECT; null: never. */
  disconnectThreshold?: number | null | undefined;
}

/** Validated options. The limit changes if any node calls `update`. @internal */
export interface SharedLimitConfig extends Limit {
  rateLimit: number;
  burstLimit: number;
  disconnectThreshold: number | null;
  readonly client: RedisClient | undefined;
  readonly mode: SharedMode;
  readonly prefix: string;
  readonly deadlineSeconds: number;
  readonly onStoreFailure: FailurePolicy;
  readonly nodes: number;
  readonly maxPeers: number;
  readonly clock: Clock | undefined;
  readonly engine: 'auto' | EngineName | undefined;
}

type Given = Readonly<Record<string, unknown>>;

const MODES = ['leased', 'strict', 'local'] as const;
export const POLICIES = ['share', 'open', 'closed'] as const;
const OPTIONS = [
  'client',
  'mode',
  'rateLimit',
  'burstLimit',
  'disconnectThreshold',
  'prefix',
  'leaseSeconds',
  'deadlineSeconds',
  'onStoreFailure',
  'nodes',
  'maxPeers',
  'clock',
  'engine',
];

/** @throws `ERR_LIMITER_OPTION` @internal */
export function readSharedOptions(options: unknown): SharedLimitConfig {
  const given = readOptions('SharedRateLimiter', options, OPTIONS);
  const mode = readChoice(given, 'mode', MODES);
  const { client } = given;
  const { engine, clock, maxPeers } = commonOptions(given);
  const deadlineSeconds = readDeadline(given);
  return {
    client: client as RedisClient | undefined,
    mode,
    ...readLimit(given, 10),
    prefix: readPrefix(given),
    ...leaseLifetimes(readLeaseSeconds(given, deadlineSeconds), deadlineSeconds),
    deadlineSeconds,
    onStoreFailure: readChoice(given, 'onStoreFailure', POLICIES),
    nodes: readNodes(given),
    maxPeers,
    clock,
    engine,
  };
}

/** Reads a change of a limit. @throws `ERR_LIMITER_OPTION` @internal */
export function readLimitChange(change: unknown, current: ChangeableLimit): LimitChange {
  const names = ['rateLimit', 'burstLimit', 'disconnectThreshold'] as const;
  const given = readOptions('SharedRateLimiter.update', change, [...names]);
  const limit = readLimit(given, current.rateLimit);
  const changed = names.filter((name) => given[name] !== undefined);
  return Object.fromEntries(changed.map((name) => [name, limit[name]]));
}

function readLimit(given: Given, defaultRate: number): ChangeableLimit {
  const rateLimit = positive(given, 'rateLimit', defaultRate);
  const tenSeconds = Math.min(Math.max(1, rateLimit * 10), Number.MAX_VALUE);
  return {
    rateLimit,
    burstLimit: burst(given, 'burstLimit', tenSeconds),
    disconnectThreshold: countOrNull(given, 'disconnectThreshold'),
  };
}

export function readNodes(given: Given): number {
  const nodes = count(given, 'nodes', 1);
  if (nodes >= 1) return nodes;
  throw invalidValue('ERR_LIMITER_OPTION', 'nodes', nodes, 'an integer of at least 1');
}

/** Reads an option that is one of some words; the first is the default. */
export function readChoice<Word extends string>(
  given: Given,
  name: string,
  words: readonly [Word, ...Word[]],
): Word {
  const value = given[name] === undefined ? words[0] : given[name];
  if (!words.includes(value as Word)) {
    const quoted = words.map((word) => `'${word}'`);
    const accepted = `${quoted.slice(0, -1).join(', ')} or ${quoted.at(-1)}`;
    throw invalidValue('ERR_LIMITER_OPTION', name, value, accepted);
  }
  return value as Word;
}
