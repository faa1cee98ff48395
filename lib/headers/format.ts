// What a server says about its limits, as the fields of one draft. Amounts are rounded down and durations
// up, so that no client is promised more than there is.

import { refused } from '../common/errors.js';
import { isArray, isRevoked } from '../common/kinds.js';
import { readOptions } from '../common/options.js';
import { requireNow } from './retry-after.js';
import type { QuotaPolicy, ServiceLimit } from './types.js';
import {
  amount,
  bytes,
  extensions,
  optional,
  parameter,
  period,
  quoted,
  seconds,
} from './write.js';

/** Which fields, and how they are written. */
export type Draft = 11 | 7 | 6 | 'legacy';

/** What a server says. Anything that `parseRateLimitHeaders` returns is one. */
export interface RateLimitStatement {
  policies?: readonly (Pick<QuotaPolicy, 'quota'> & Partial<QuotaPolicy>)[];
  limits?: readonly Partial<ServiceLimit>[];
  retryAfterSeconds?: number | null;
}

export interface FormatOptions {
  /** Default: 11, the newest. `legacy` is X-RateLimit-Limit, -Remaining and -Reset. */
  draft?: Draft | undefined;
  /** Epoch milliseconds, for the reset of `legacy`, which is a time. Default: this machine's clock. */
  now?: number | undefined;
}

/** A part of the statement, with what an error calls it. */
type Named<T> = T & { path: string };
type Policy = Named<NonNullable<RateLimitStatement['policies']>[number]>;
type Limit = Named<Partial<ServiceLimit>>;

/** By name; one that is empty is not sent. */
type Fields = Record<string, string | number | null>;

/**
 * The fields of a response that say what `info` says, by name:
 *
 * - draft 11: RateLimit-Policy and RateLimit, with every policy and limit; each needs a name, and a limit
 *   its `remaining`. What a limit says of its `limit` and `cost` is left out.
 * - drafts 7 and 6: the policies that count requests and have a window (of those with one quota the
 *   longest), and of the limits the one with the lowest `remaining`. Its `limit` and `resetSeconds`, where
 *   not given, are the quota and the window of its policy.
 * - legacy: that limit, its reset as epoch seconds.
 *
 * Retry-After where there are `retryAfterSeconds`. Quotas and what remains are rounded down, durations
 * up, Decimals to three digits.
 *
 * @throws ERR_LIMITER_OPTION for what the draft cannot say: a name that is not printable ASCII, a number
 * that is negative, not finite or of more than 15 digits, a limit of which something required is not known
 */
export function formatRateLimitHeaders(
  info: RateLimitStatement,
  options?: FormatOptions,
): Record<string, string> {
  const { draft, now } = formatOptions(options);
  const { policies, limits, retryAfterSeconds } = readStatement(info);
  const fields = DRAFTS[draft](policies, limits, now);
  fields['Retry-After'] = optional(seconds, 'retryAfterSeconds', retryAfterSeconds);
  const said = Object.entries(fields).filter(([, value]) => value !== null && value !== '');
  return Object.fromEntries(said.map(([name, value]) => [name, String(value)]));
}

const DRAFTS: Readonly<
  Record<Draft, (policies: Policy[], limits: Limit[], now: number) => Fields>
> = {
  11: (policies, limits) => ({
    'RateLimit-Policy': policies.map(namedPolicy).join(', '),
    RateLimit: limits.map(namedLimit).join(', '),
  }),
  7: (policies, limits) => ({
    'RateLimit-Policy': namelessPolicies(policies),
    RateLimit: dictionary(complete(lowest(policies, limits))),
  }),
  6(policies, limits) {
    const limit = complete(lowest(policies, limits));
    return {
      'RateLimit-Policy': namelessPolicies(policies),
      'RateLimit-Limit': limit?.limit ?? null,
      'RateLimit-Remaining': limit?.remaining ?? null,
      'RateLimit-Reset': limit?.reset ?? null,
    };
  },
  legacy(policies, limits, now) {
    const { limit = null, remaining = null, reset = null } = lowest(policies, limits) ?? {};
    return {
      'X-RateLimit-Limit': limit,
      'X-RateLimit-Remaining': remaining,
      'X-RateLimit-Reset': reset === null ? null : Math.ceil(now / 1000 + reset),
    };
  },
};

const POLICY_KEYS = ['q', 'w', 'qu', 'pk'];

function namedPolicy({ path, ...policy }: Policy): string {
  const { quota, unit = 'requests', partitionKey, parameters } = policy;
  return [
    quoted(`${path}.name`, policy.name),
    parameter('q', amount(`${path}.quota`, quota)),
    parameter('qu', unit === 'requests' ? null : quoted(`${path}.unit`, unit)),
    parameter('w', windowOf({ path, ...policy })),
    parameter('pk', optional(bytes, `${path}.partitionKey`, partitionKey)),
    extensions(`${path}.parameters`, parameters, POLICY_KEYS),
  ].join('');
}

function namedLimit({ path, name, remaining, resetSeconds, partitionKey }: Limit): string {
  return [
    quoted(`${path}.name`, name),
    parameter('r', amount(`${path}.remaining`, remaining)),
    parameter('t', optional(seconds, `${path}.resetSeconds`, resetSeconds)),
    parameter('pk', optional(bytes, `${path}.partitionKey`, partitionKey)),
  ].join('');
}

/** -07 forbids two policies with one quota: a reader finds the policy of a limit by it. */
function namelessPolicies(policies: readonly Policy[]): string {
  const longest = new Map<number, { window: number; comments: string }>();
  for (const policy of policies) {
    const { path, parameters } = policy;
    const quota = amount(`${path}.quota`, policy.quota);
    const window = windowOf(policy);
    if (window === null || !countsRequests(policy)) continue;
    if (window <= (longest.get(quota)?.window ?? 0)) continue;
    const comments = extensions(`${path}.parameters`, parameters, POLICY_KEYS);
    longest.set(quota, { window, comments });
  }
  return [...longest]
    .map(([quota, { window, comments }]) => `${quota};w=${window}${comments}`)
    .join(', ');
}

/** A limit as generations say it that have one. */
interface OneLimit {
  path: string;
  limit: number | null;
  remaining: number | null;
  reset: number | null;
}

/** The limit with the lowest remaining; of several the one with the latest reset. */
function lowest(policies: readonly Policy[], limits: readonly Limit[]): OneLimit | null {
  const known = limits.flatMap(({ path, ...told }): OneLimit[] => {
    const policy = policies.find((candidate) => isOf(told, candidate));
    if (policy !== undefined && !countsRequests(policy)) return [];
    const { limit = null, remaining, resetSeconds = null } = told;
    return [
      {
        path,
        limit: optional(amount, `${path}.limit`, limit ?? policy?.quota),
        remaining: optional(amount, `${path}.remaining`, remaining),
        reset: optional(seconds, `${path}.resetSeconds`, resetSeconds ?? policy?.windowSeconds),
      },
    ];
  });
  const rank = ({ remaining }: OneLimit) => remaining ?? Number.MAX_VALUE;
  known.sort((a, b) => rank(a) - rank(b) || (b.reset ?? 0) - (a.reset ?? 0));
  return known[0] ?? null;
}

/**
 * Whether it is the limit's policy: the one of its name, or, without names, of its quota. A partition
 * that one of them does not name is the other's.
 */
function isOf(told: Partial<ServiceLimit>, policy: Policy): boolean {
  const { name = null, limit = null, partitionKey = null } = told;
  const its = policy.partitionKey ?? null;
  const samePartition = partitionKey === null || its === null || partitionKey === its;
  const sameQuota = name !== null || limit === null || limit === policy.quota;
  return name === (policy.name ?? null) && samePartition && sameQuota;
}

function countsRequests({ unit = 'requests' }: Policy): boolean {
  return unit === 'requests';
}

function windowOf({ path, windowSeconds }: Policy): number | null {
  return optional(period, `${path}.windowSeconds`, windowSeconds);
}

function complete(one: OneLimit | null): OneLimit | null {
  if (one?.limit === null) throw unknown(`${one.path}.limit`);
  if (one?.reset === null) throw unknown(`${one.path}.resetSeconds`);
  return one;
}

function unknown(name: string): Error {
  const accepted = 'given for this draft, or known from its policy';
  return refused('ERR_LIMITER_OPTION', name, null, accepted);
}

function dictionary(one: OneLimit | null): string {
  if (one === null) return '';
  const remaining = one.remaining === null ? '' : `, remaining=${one.remaining}`;
  return `limit=${one.limit}${remaining}, reset=${one.reset}`;
}

function readStatement(info: unknown) {
  if (typeof info !== 'object' || info === null || isRevoked(info)) {
    throw refused('ERR_LIMITER_OPTION', 'info', info, 'an object with policies and limits');
  }
  const { policies = [], limits = [], retryAfterSeconds } = info as Record<string, unknown>;
  return {
    policies: named('policies', policies) as Policy[],
    limits: named('limits', limits) as Limit[],
    retryAfterSeconds,
  };
}

function named(list: string, given: unknown): Named<object>[] {
  if (!isArray(given)) throw refused('ERR_LIMITER_OPTION', list, given, 'an array');
  return given.map((part, n) => {
    const path = `${list}[${n}]`;
    if (typeof part === 'object' && part !== null && !isRevoked(part)) return { ...part, path };
    throw refused('ERR_LIMITER_OPTION', path, part, 'an object');
  });
}

function formatOptions(options: unknown): { draft: Draft; now: number } {
  const owner = 'formatRateLimitHeaders';
  const { draft = 11, now = Date.now() } = readOptions(owner, options, ['draft', 'now']);
  requireNow(now);
  if (draft === 11 || draft === 7 || draft === 6 || draft === 'legacy') return { draft, now };
  throw refused('ERR_LIMITER_OPTION', 'draft', draft, "11, 7, 6 or 'legacy'");
}
