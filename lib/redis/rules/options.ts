// The options of a SharedRuleLimiter: their types, validation and defaults.

import type { Clock } from '../../common/clock.js';
import { callback, commonOptions, readOptions } from '../../common/options.js';
import { compile, type RuleBook, readSections } from '../../rules/compile.js';
import { readScopes, type ScopeSpec } from '../../rules/sections.js';
import type { RuleBan, RuleLimiterOptions } from '../../rules/types.js';
import type { FailurePolicy } from '../limit/options.js';
import { POLICIES, readChoice, readNodes } from '../limit/options.js';
import { leaseLifetimes } from '../store/limit.js';
import { readDeadline, readLeaseSeconds, readPrefix } from '../store/options.js';
import type { RedisClient } from '../store/redis-client.js';

/**
 * How a `SharedRuleLimiter` uses the store. `leased`: nodes lease tokens of each rule and key ahead of their use, and
 * decide without a call of the store as long as all rules of a check are covered. `strict`: every check is a call.
 */
export type SharedRuleMode = 'leased' | 'strict';

/**
 * Options of a `SharedRuleLimiter`. All processes need the same scopes, rules, plans, bans, `leaseSeconds` and
 * `deadlineSeconds`.
 */
export interface SharedRuleLimiterOptions
  extends Omit<RuleLimiterOptions, 'engine' | 'cleanup' | 'onBan'> {
  /** A client of node-redis or ioredis, connected or connecting. You close it yourself. */
  readonly client: RedisClient;
  /** `leased` or `strict`. Default `leased`. */
  readonly mode?: SharedRuleMode | undefined;
  /** What all keys begin with: 1 to 100 characters without braces. One for each limiter. Default `rl`. */
  readonly prefix?: string | undefined;
  /** Seconds for which tokens are leased, at least twice `deadlineSeconds`. Default 30, or that if it is more. */
  readonly leaseSeconds?: number | undefined;
  /** Seconds after which a check no longer waits for the store, greater than 0. Default 0.1. */
  readonly deadlineSeconds?: number | undefined;
  /** What decides while the store does not answer: `share`, `open` or `closed`. Default `share`. */
  readonly onStoreFailure?: FailurePolicy | undefined;
  /** For `share`: the least number of processes that share the limits, at least 1. Default 1. */
  readonly nodes?: number | undefined;
  /** The engine that counts offenders. Default: the environment variable `RELAY_LIMITER_ENGINE`, otherwise `auto`. */
  readonly engine?: RuleLimiterOptions['engine'];
  /** Called once for each ban that a check of this process begins, after the decision. Not called for bans by hand. */
  readonly onBan?: ((ban: RuleBan) => void) | undefined;
}

/** Validated options. @internal */
export interface SharedRuleConfig {
  readonly client: RedisClient;
  readonly mode: SharedRuleMode;
  readonly prefix: string;
  readonly leaseSeconds: number;
  readonly shortLeaseSeconds: number;
  readonly deadlineSeconds: number;
  readonly onStoreFailure: FailurePolicy;
  readonly nodes: number;
  readonly maxPeers: number;
  readonly clock: Clock | undefined;
  readonly engine: RuleLimiterOptions['engine'];
  readonly scopes: readonly ScopeSpec[];
  readonly book: RuleBook;
  readonly random: () => number;
  readonly onBan: ((ban: RuleBan) => void) | undefined;
}

export const SECTIONS = ['rules', 'plans', 'bans', 'allow', 'deny'] as const;
const MODES = ['leased', 'strict'] as const;
const OPTIONS = [
  'client',
  'mode',
  'prefix',
  'leaseSeconds',
  'deadlineSeconds',
  'onStoreFailure',
  'nodes',
  'scopes',
  ...SECTIONS,
  'maxPeers',
  'clock',
  'engine',
  'onBan',
  'random',
];

/** @throws `ERR_LIMITER_OPTION` @internal */
export function readSharedRuleOptions(options: unknown): SharedRuleConfig {
  const given = readOptions('SharedRuleLimiter', options, OPTIONS);
  const { engine, clock, maxPeers, onBan } = commonOptions(given);
  const deadlineSeconds = readDeadline(given);
  const scopes = readScopes(given['scopes']);
  return {
    client: given['client'] as RedisClient,
    mode: readChoice(given, 'mode', MODES),
    prefix: readPrefix(given),
    ...leaseLifetimes(readLeaseSeconds(given, deadlineSeconds), deadlineSeconds),
    deadlineSeconds,
    onStoreFailure: readChoice(given, 'onStoreFailure', POLICIES),
    nodes: readNodes(given),
    maxPeers,
    clock,
    engine,
    scopes,
    book: compile(scopes, readSections(given, scopes)),
    random: callback<() => number>(given, 'random') ?? Math.random,
    onBan: onBan as ((ban: RuleBan) => void) | undefined,
  };
}
