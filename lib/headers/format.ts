// formatRateLimitHeaders writes what a server says about its limits as the fields of one draft. Amounts are rounded
// down and durations up, so that no client is promised more than there is.

import { invalidValue } from '../common/errors.js';
import { isArray, isRevoked } from '../common/kinds.js';
import { readOptions } from '../common/options.js';
import { requireNow } from './retry-after.js';
import type { QuotaPolicy, ServiceLimit } from './types.js';
import {
  writeAmount,
  writeBytes,
  writeExtensions,
  writeOptional,
  writeParameter,
  writeSeconds,
  writeString,
  writeWindow,
} from './write.js';

/** The draft that determines the fields and their format. `legacy`: the `X-RateLimit` fields. */
export type Draft = 11 | 7 | 6 | 'legacy';

/** What a server says about its limits. A result of `parseRateLimitHeaders` is valid too. */
export interface RateLimitStatement {
  policies?: readonly (Pick<QuotaPolicy, 'quota'> & Partial<QuotaPolicy>)[];
  limits?: readonly Partial<ServiceLimit>[];
  /** Seconds to wait, for `Retry-After`. Default: none. */
  retryAfterSeconds?: number | null;
}

/** The options of `formatRateLimitHeaders`. */
export interface FormatOptions {
  /** Default: 11, the newest. `legacy`: X-RateLimit-Limit, -Remaining and -Reset. */
  draft?: Draft | undefined;
  /** Epoch milliseconds, for the reset of `legacy`, which is a point in time. Default: this machine's clock. */
  now?: number | undefined;
}

/** A part of the statement, with its path for error messages. */
type WithPath<T> = T & { path: string };
type StatedPolicy = WithPath<NonNullable<RateLimitStatement['policies']>[number]>;
type StatedLimit = WithPath<Partial<ServiceLimit>>;

/** The fields by name. Fields that are null or empty are left out. */
type Fields = Record<string, string | number | null>;

/**
 * Returns the fields of a response that say what `info` says, by name.
 *
 * - Draft 11: RateLimit-Policy and RateLimit with every policy and limit. Each needs a name, and each limit a
 *   `remaining`. A limit's `limit` and `cost` are left out.
 * - Drafts 7 and 6: the policies that count requests and have a window (among those with the same quota, the one
 *   with the longest window), and the limit with the lowest `remaining`. Its `limit` and `resetSeconds` default
 *   to the quota and the window of its policy.
 * - `legacy`: the same limit, with its reset in epoch seconds.
 *
 * Adds Retry-After if `retryAfterSeconds` is given. Quotas and remaining units are rounded down, durations up, and
 * Decimals to three digits.
 *
 * @throws ERR_LIMITER_OPTION for a value that the draft cannot represent: a name that is not printable ASCII, a
 * number that is negative, not finite or of more than 15 digits, or a limit without a required value
 *
 * @example
 * import { formatRateLimitHeaders } from 'relay-limiter/headers';
 *
 * const info = {
 *   policies: [{ name: 'burst', quota: 100, windowSeconds: 60 }],
 *   limits: [{ name: 'burst', remaining: 50, resetSeconds: 30 }],
 * };
 * console.log(formatRateLimitHeaders(info)); // RateLimit-Policy and RateLimit
 * console.log(formatRateLimitHeaders(info, { draft: 'legacy' })); // X-RateLimit-Limit, ...
 */
export function formatRateLimitHeaders(
  info: RateLimitStatement,
  options?: FormatOptions,
): Record<string, string> {
  const { draft, now } = readFormatOptions(options);
  return formatNamed(info, draft, now);
}

/** `policyName`: what errors call each policy, in place of its place in the list. @internal */
export function formatNamed(
  info: RateLimitStatement,
  draft: Draft,
  now: number,
  policyName?: string,
): Record<string, string> {
  const { policies, limits, retryAfterSeconds } = readStatement(info, policyName);
  const fields = FORMATTERS[draft](policies, limits, now);
  fields['Retry-After'] = writeOptional(writeSeconds, 'retryAfterSeconds', retryAfterSeconds);
  const present = Object.entries(fields).filter(([, value]) => value !== null && value !== '');
  return Object.fromEntries(present.map(([name, value]) => [name, String(value)]));
}

const FORMATTERS: Readonly<
  Record<Draft, (policies: StatedPolicy[], limits: StatedLimit[], now: number) => Fields>
> = {
  11: (policies, limits) => ({
    'RateLimit-Policy': policies.map(formatPolicy).join(', '),
    RateLimit: limits.map(formatLimit).join(', '),
  }),
  7: (policies, limits) => ({
    'RateLimit-Policy': formatNamelessPolicies(policies),
    RateLimit: formatDictionary(requireComplete(findLowest(policies, limits))),
  }),
  6(policies, limits) {
    const limit = requireComplete(findLowest(policies, limits));
    return {
      'RateLimit-Policy': formatNamelessPolicies(policies),
      'RateLimit-Limit': limit?.limit ?? null,
      'RateLimit-Remaining': limit?.remaining ?? null,
      'RateLimit-Reset': limit?.reset ?? null,
    };
  },
  legacy(policies, limits, now) {
    const { limit = null, remaining = null, reset = null } = findLowest(policies, limits) ?? {};
    return {
      'X-RateLimit-Limit': limit,
      'X-RateLimit-Remaining': remaining,
      'X-RateLimit-Reset': reset === null ? null : Math.ceil(now / 1000 + reset),
    };
  },
};

const POLICY_KEYS = ['q', 'w', 'qu', 'pk'];

function formatPolicy({ path, ...policy }: StatedPolicy): string {
  const { quota, unit = 'requests', partitionKey, parameters } = policy;
  return [
    writeString(`${path}.name`, policy.name),
    writeParameter('q', writeAmount(`${path}.quota`, quota)),
    writeParameter('qu', unit === 'requests' ? null : writeString(`${path}.unit`, unit)),
    writeParameter('w', windowOf({ path, ...policy })),
    writeParameter('pk', writeOptional(writeBytes, `${path}.partitionKey`, partitionKey)),
    writeExtensions(`${path}.parameters`, parameters, POLICY_KEYS),
  ].join('');
}

function formatLimit({ path, name, remaining, resetSeconds, partitionKey }: StatedLimit): string {
  return [
    writeString(`${path}.name`, name),
    writeParameter('r', writeAmount(`${path}.remaining`, remaining)),
    writeParameter('t', writeOptional(writeSeconds, `${path}.resetSeconds`, resetSeconds)),
    writeParameter('pk', writeOptional(writeBytes, `${path}.partitionKey`, partitionKey)),
  ].join('');
}

/** Draft -07 forbids two policies with the same quota, because a reader finds the policy of a limit by its quota. */
function formatNamelessPolicies(policies: readonly StatedPolicy[]): string {
  const longest = new Map<number, { window: number; comments: string }>();
  for (const policy of policies) {
    const { path, parameters } = policy;
    const quota = writeAmount(`${path}.quota`, policy.quota);
    const window = windowOf(policy);
    if (window === null || !countsRequests(policy)) continue;
    if (window <= (longest.get(quota)?.window ?? 0)) continue;
    const comments = writeExtensions(`${path}.parameters`, parameters, POLICY_KEYS);
    longest.set(quota, { window, comments });
  }
  return [...longest]
    .map(([quota, { window, comments }]) => `${quota};w=${window}${comments}`)
    .join(', ');
}

/** A limit for the generations of fields that can express only one. */
interface SingleLimit {
  path: string;
  limit: number | null;
  remaining: number | null;
  reset: number | null;
}

/** Returns the limit with the lowest `remaining`, and among equals the one with the latest reset. */
function findLowest(
  policies: readonly StatedPolicy[],
  limits: readonly StatedLimit[],
): SingleLimit | null {
  const known = limits.flatMap(({ path, ...limit }): SingleLimit[] => {
    const policy = policies.find((candidate) => isPolicyOf(limit, candidate));
    if (policy !== undefined && !countsRequests(policy)) return [];
    const { limit: quota = null, remaining, resetSeconds = null } = limit;
    return [
      {
        path,
        limit: writeOptional(writeAmount, `${path}.limit`, quota ?? policy?.quota),
        remaining: writeOptional(writeAmount, `${path}.remaining`, remaining),
        reset: writeOptional(
          writeSeconds,
          `${path}.resetSeconds`,
          resetSeconds ?? policy?.windowSeconds,
        ),
      },
    ];
  });
  const rank = ({ remaining }: SingleLimit) => remaining ?? Number.MAX_VALUE;
  known.sort((a, b) => rank(a) - rank(b) || (b.reset ?? 0) - (a.reset ?? 0));
  return known[0] ?? null;
}

/**
 * Whether the policy is that of the limit: it has the same name or, without names, the same quota. If only one of
 * them has a partition key, it applies to both.
 */
function isPolicyOf(limit: Partial<ServiceLimit>, policy: StatedPolicy): boolean {
  const { name = null, limit: quota = null, partitionKey = null } = limit;
  const otherKey = policy.partitionKey ?? null;
  const isSamePartition = partitionKey === null || otherKey === null || partitionKey === otherKey;
  const isSameQuota = name !== null || quota === null || quota === policy.quota;
  return name === (policy.name ?? null) && isSamePartition && isSameQuota;
}

function countsRequests({ unit = 'requests' }: StatedPolicy): boolean {
  return unit === 'requests';
}

function windowOf({ path, windowSeconds }: StatedPolicy): number | null {
  return writeOptional(writeWindow, `${path}.windowSeconds`, windowSeconds);
}

/** Throws unless the limit has the values that drafts 7 and 6 require. */
function requireComplete(limit: SingleLimit | null): SingleLimit | null {
  if (limit?.limit === null) throw missingValue(`${limit.path}.limit`);
  if (limit?.reset === null) throw missingValue(`${limit.path}.resetSeconds`);
  return limit;
}

function missingValue(name: string): Error {
  const accepted = 'given for this draft, or known from its policy';
  return invalidValue('ERR_LIMITER_OPTION', name, null, accepted);
}

function formatDictionary(limit: SingleLimit | null): string {
  if (limit === null) return '';
  const remaining = limit.remaining === null ? '' : `, remaining=${limit.remaining}`;
  return `limit=${limit.limit}${remaining}, reset=${limit.reset}`;
}

function readStatement(info: unknown, policyName: string | undefined) {
  if (typeof info !== 'object' || info === null || isRevoked(info)) {
    throw invalidValue('ERR_LIMITER_OPTION', 'info', info, 'an object with policies and limits');
  }
  const { policies = [], limits = [], retryAfterSeconds } = info as Record<string, unknown>;
  return {
    policies: withPaths('policies', policies, policyName) as StatedPolicy[],
    limits: withPaths('limits', limits) as StatedLimit[],
    retryAfterSeconds,
  };
}

function withPaths(list: string, given: unknown, name?: string): WithPath<object>[] {
  if (!isArray(given)) throw invalidValue('ERR_LIMITER_OPTION', list, given, 'an array');
  return given.map((part, index) => {
    const path = name ?? `${list}[${index}]`;
    if (typeof part === 'object' && part !== null && !isRevoked(part)) return { ...part, path };
    throw invalidValue('ERR_LIMITER_OPTION', path, part, 'an object');
  });
}

function readFormatOptions(options: unknown): { draft: Draft; now: number } {
  const owner = 'formatRateLimitHeaders';
  const { draft = 11, now = Date.now() } = readOptions(owner, options, ['draft', 'now']);
  requireNow(now);
  if (draft === 11 || draft === 7 || draft === 6 || draft === 'legacy') return { draft, now };
  throw invalidValue('ERR_LIMITER_OPTION', 'draft', draft, "11, 7, 6 or 'legacy'");
}
