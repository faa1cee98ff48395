// The options of a SharedRateLimiter, checked and with their defaults.

import type { Clock } from '../../clock.js';
import { refused } from '../../errors.js';
import { burst, commonOptions, count, countOrNull, positive, readOptions } from '../../options.js';
import type { EngineName } from '../../types.js';
import type { RedisClient } from '../store/client.js';
import { type Limit, leaseTimes } from '../store/limit-scripts.js';

export type SharedMode = 'leased' | 'strict' | 'local';
export type FailurePolicy = 'share' | 'open' | 'closed';

export interface SharedRateLimiterOptions {
  /** A client of node-redis or ioredis, connected or about to be; not needed for mode `local`. It stays yours. */
  client?: RedisClient | undefined;
  /**
   * `leased` (the default): nodes take tokens ahead of their use and spend them without asking.
   * `strict`: every check asks. `local`: no store; this process alone.
   */
  mode?: SharedMode | undefined;
  /** Tokens a second given to each peer by all nodes together, greater than 0. Default 10. */
  rateLimit?: number | undefined;
  /** Most tokens a peer saves up: at least 1; null or 0 means the default, 10 x rateLimit (but at least 1). */
  burstLimit?: number | null | undefined;
  /** Violations, of all nodes, from which a refusal is DISCONNECT (0: from the first on). Default null: never. */
  disconnectThreshold?: number | null | undefined;
  /** What all keys begin with; without braces. One for each limit. Default `relay-limiter`. */
  prefix?: string | undefined;
  /** Seconds for which tokens are leased, at least twice `deadlineSeconds`; the same on all nodes. Default 30. */
  leaseSeconds?: number | undefined;
  /** Seconds after which the store is waited for no longer, greater than 0; the same on all nodes. Default 0.1. */
  deadlineSeconds?: number | undefined;
  /**
   * What decides while the store does not answer. `share` (the default): the rate divided by the number
   * of nodes (`nodes`). `open`: everything is allowed. `closed`: nothing but what is on lease.
   */
  onStoreFailure?: FailurePolicy | undefined;
  /**
   * How many processes share the limit at least, for `share`: an integer of at least 1. The most that were
   * seen within the last five minutes count where they are more. Default 1: a process that starts while the
   * store is away takes itself for the only one.
   */
  nodes?: number | undefined;
  /** Most peers kept in this process at once: an integer of at least 1, or Infinity. Default 1,000,000. */
  maxPeers?: number | undefined;
  /** Monotonic seconds, by which leases and refusals end. Default: the engine's own clock. */
  clock?: (() => number) | undefined;
  /** The engine that keeps buckets (mode `local`) or leases (`leased`). Default: `RELAY_LIMITER_ENGINE`, else `auto`. */
  engine?: 'auto' | EngineName | undefined;
}

export interface SharedSettings extends Limit {
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

const MODES = ['leased', 'strict', 'local'] as const;
const POLICIES = ['share', 'open', 'closed'] as const;
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
const DEFAULT_LEASE_SECONDS = 30;
export const DEFAULT_DEADLINE_SECONDS = 0.1;

/** @throws `ERR_LIMITER_OPTION` */
export function readSharedOptions(options: unknown): SharedSettings {
  const given = readOptions('SharedRateLimiter', options, OPTIONS);
  const rateLimit = positive(given, 'rateLimit', 10);
  const tenSeconds = Math.min(Math.max(1, rateLimit * 10), Number.MAX_VALUE);
  const mode = choice(given, 'mode', MODES);
  const { client } = given;
  const { engine, clock, maxPeers } = commonOptions(given);
  const leaseSeconds = positive(given, 'leaseSeconds', DEFAULT_LEASE_SECONDS);
  const deadlineSeconds = positive(given, 'deadlineSeconds', DEFAULT_DEADLINE_SECONDS);
  return {
    client: client as RedisClient | undefined,
    mode,
    rateLimit,
    burstLimit: burst(given, 'burstLimit', tenSeconds),
    disconnectThreshold: countOrNull(given, 'disconnectThreshold'),
    prefix: prefixOf(given),
    ...leaseTimes(leaseSeconds, deadlineSeconds),
    deadlineSeconds,
    onStoreFailure: choice(given, 'onStoreFailure', POLICIES),
    nodes: nodesOf(given),
    maxPeers,
    clock,
    engine,
  };
}

/** What keys begin with. Braces would choose the part of a cluster that they are in. */
export function prefixOf(given: Readonly<Record<string, unknown>>): string {
  const prefix = given['prefix'] === undefined ? 'relay-limiter' : given['prefix'];
  if (typeof prefix !== 'string' || !/^[^{}]{1,100}$/.test(prefix)) {
    const accepted = 'a text of 1 to 100 characters without braces';
    throw refused('ERR_LIMITER_OPTION', 'prefix', prefix, accepted);
  }
  return prefix;
}

function nodesOf(given: Readonly<Record<string, unknown>>): number {
  const nodes = count(given, 'nodes', 1);
  if (nodes >= 1) return nodes;
  throw refused('ERR_LIMITER_OPTION', 'nodes', nodes, 'an integer of at least 1');
}

/** One of some words, the first unless one is given. */
function choice<Word extends string>(
  given: Readonly<Record<string, unknown>>,
  name: string,
  words: readonly [Word, ...Word[]],
): Word {
  const value = given[name] === undefined ? words[0] : given[name];
  if (!words.includes(value as Word)) {
    throw refused('ERR_LIMITER_OPTION', name, value, words.map((word) => `'${word}'`).join(' or '));
  }
  return value as Word;
}
