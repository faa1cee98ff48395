// parseRateLimitHeaders reads what a response says about rate limits, in every generation of fields.

import { invalidValue } from '../common/errors.js';
import { readOptions } from '../common/options.js';
import { readLimits, readPartitions, readPolicies, readThreeFields } from './drafts.js';
import { readFamilies } from './families.js';
import { FieldReader, type ResponseHeaders } from './fields.js';
import { createResetReader, type ResetFormat, type ResetReader } from './resets.js';
import { parseHttpDate, parseRetryAfter, requireNow } from './retry-after.js';
import type { RateLimitInfo } from './types.js';

/** The options of `parseRateLimitHeaders`. */
export interface ParseOptions {
  /**
   * The time of the response's receipt in epoch milliseconds, for fields that are dates. Default: the response's
   * own `Date`, because the clocks of two machines differ; without a valid `Date`, this machine's clock.
   */
  now?: number | undefined;
  /** Accepts only what draft -11 and RFC 9110 allow, nothing older or newer. Default: false. */
  strict?: boolean | undefined;
  /** The format of this server's resets, if recognition from the text would be wrong. Default: `auto`. */
  resetFormat?: ResetFormat | undefined;
}

const RESET_FORMATS: readonly unknown[] = [
  'auto',
  'delta',
  'epoch',
  'date',
] satisfies ResetFormat[];

/**
 * Returns what a response says about rate limits. It reads `RateLimit` and `RateLimit-Policy` of every draft,
 * `RateLimit-Limit`, `-Remaining` and `-Reset` of the first drafts, the `X-RateLimit` families, and
 * `Retry-After`. If a response has several generations of fields, the newest counts.
 *
 * Invalid fields never throw: they are left out and named in `ignored`. So is a field of more than 4,096
 * characters, and the items of a field after the first 64.
 *
 * @throws ERR_LIMITER_OPTION if `headers` is not a Headers object, a record or an array of pairs, or if an option
 * is invalid
 *
 * @example
 * import { parseRateLimitHeaders } from 'relay-limiter/headers';
 *
 * const { policies, limits, retryAfterSeconds } = parseRateLimitHeaders({
 *   'RateLimit-Policy': '"burst";q=100;w=60',
 *   RateLimit: '"burst";r=50;t=30',
 *   'Retry-After': '20',
 * });
 * console.log(policies[0]?.quota, limits[0]?.remaining, retryAfterSeconds); // 100 50 20
 */
export function parseRateLimitHeaders(
  headers: ResponseHeaders,
  options?: ParseOptions,
): RateLimitInfo {
  const { now, strict, resetFormat } = readParseOptions(options);
  const fields = new FieldReader(headers, strict);
  const time = () => now ?? parseHttpDate(fields.value('date') ?? '', Date.now()) ?? Date.now();
  const info: RateLimitInfo = {
    policies: readPolicies(fields),
    limits: readLimits(fields),
    retryAfterSeconds: null,
    ignored: fields.ignored,
  };
  if (!strict) readOtherGenerations(fields, info, createResetReader(resetFormat, time));
  info.retryAfterSeconds = fields.read('retry-after', (text) => parseRetryAfter(text, time()));
  return info;
}

/** Reads what only the next draft has, and of the older generations what no newer one has given. */
function readOtherGenerations(
  fields: FieldReader,
  info: RateLimitInfo,
  readReset: ResetReader,
): void {
  const partitions = readPartitions(fields);
  if (partitions.length > 0) info.partitions = partitions;
  if (info.limits.length > 0) return;
  const { limits, policies } = readThreeFields(fields, readReset);
  info.limits = limits;
  if (info.policies.length === 0) info.policies = policies;
  if (info.limits.length === 0) info.limits = readFamilies(fields, readReset);
}

function readParseOptions(options: unknown) {
  const {
    now,
    strict = false,
    resetFormat = 'auto',
  } = readOptions('parseRateLimitHeaders', options, ['now', 'strict', 'resetFormat']);
  if (now !== undefined) requireNow(now);
  if (typeof strict !== 'boolean') {
    throw invalidValue('ERR_LIMITER_OPTION', 'strict', strict, 'true or false');
  }
  if (!RESET_FORMATS.includes(resetFormat)) {
    const accepted = "'auto', 'delta', 'epoch' or 'date'";
    throw invalidValue('ERR_LIMITER_OPTION', 'resetFormat', resetFormat, accepted);
  }
  return { now, strict, resetFormat: resetFormat as ResetFormat };
}
