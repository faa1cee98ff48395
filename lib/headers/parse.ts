// parseRateLimitHeaders reads what a response says about rate limits, in every generation of fields.

import { invalidValue } from '../common/errors.js';
import { readOptions } from '../common/options.js';
import type { ResponseHeaders } from './containers.js';
import { DRAFT_FIELDS, readLimits, readPartitions, readPolicies } from './drafts.js';
import { DRAFT_TRIPLE, FAMILY_FIELDS, readFamilies } from './families.js';
import { FieldReader } from './fields.js';
import { createResetReader, RESET_FORMATS, type ResetFormat, type ResetReader } from './resets.js';
import { parseHttpDate, requireNow } from './retry-after.js';
import { readTriple } from './triples.js';
import type { RateLimitInfo } from './types.js';
import { readWait, WAIT_FIELDS } from './waits.js';

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

/**
 * Returns what a response says about rate limits. It reads `RateLimit` and `RateLimit-Policy` of every draft,
 * `RateLimit-Limit`, `-Remaining` and `-Reset` of the first drafts, the `X-RateLimit` families, the fields of some
 * vendors, and `Retry-After`. If a response has several generations of fields, the newest counts.
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
  return readResponse(headers, readParseOptions(options)).info;
}

/** The fields that a response without limits may have too. */
const COMMON_FIELDS = ['date', 'age'];
const FIELDS: ReadonlySet<string> = new Set([
  ...COMMON_FIELDS,
  ...DRAFT_FIELDS,
  ...FAMILY_FIELDS,
  ...WAIT_FIELDS,
]);

export interface ResponseLimits {
  readonly info: RateLimitInfo;
  /** The response's `Age`; 0 without a valid one. */
  readonly ageSeconds: number;
}

/** Reads the limits and the age of a response. @throws ERR_LIMITER_OPTION if `headers` is not a container for fields */
export function readResponse(
  headers: ResponseHeaders,
  { now, strict, resetFormat }: ReturnType<typeof readParseOptions>,
): ResponseLimits {
  const fields = new FieldReader(headers, FIELDS, strict);
  const ageSeconds = readAge(fields);
  if (!fields.hasOthersThan(COMMON_FIELDS)) return { info: nothing(), ageSeconds };
  const time = () => now ?? parseHttpDate(fields.value('date') ?? '', Date.now()) ?? Date.now();
  const info: RateLimitInfo = {
    policies: readPolicies(fields),
    limits: readLimits(fields),
    retryAfterSeconds: null,
    ignored: fields.ignored,
  };
  if (!strict) readOtherGenerations(fields, info, createResetReader(resetFormat, time));
  info.retryAfterSeconds = readWait(fields, time);
  return { info, ageSeconds };
}

/** Returns the `Age` of a response. */
export function ageOf(headers: ResponseHeaders): number {
  return readAge(new FieldReader(headers, AGE_FIELD, false));
}

const AGE_FIELD: ReadonlySet<string> = new Set(['age']);

function readAge(fields: FieldReader): number {
  const age = fields.value('age');
  return age !== null && /^\d{1,15}$/.test(age) ? Number(age) : 0;
}

function nothing(): RateLimitInfo {
  return { policies: [], limits: [], retryAfterSeconds: null, ignored: [] };
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
  for (const read of [readDraftTriple, readFamilies]) {
    const { limits, policies } = read(fields, readReset);
    info.limits = limits;
    if (info.policies.length === 0) info.policies = policies;
    if (info.limits.length > 0) return;
  }
}

function readDraftTriple(fields: FieldReader, readReset: ResetReader) {
  return readTriple(fields, DRAFT_TRIPLE, readReset);
}

function readParseOptions(options: unknown) {
  const given = readOptions('parseRateLimitHeaders', options, ['now', 'strict', 'resetFormat']);
  const { now, strict = false } = given;
  if (now !== undefined) requireNow(now);
  if (typeof strict !== 'boolean') {
    throw invalidValue('ERR_LIMITER_OPTION', 'strict', strict, 'true or false');
  }
  return { now, strict, resetFormat: readResetFormat(given) };
}

/** Returns the option `resetFormat`. @throws ERR_LIMITER_OPTION */
export function readResetFormat({
  resetFormat = 'auto',
}: Readonly<Record<string, unknown>>): ResetFormat {
  if (RESET_FORMATS.includes(resetFormat)) return resetFormat as ResetFormat;
  const accepted = "'auto', 'delta', 'delta-ms', 'epoch' or 'date'";
  throw invalidValue('ERR_LIMITER_OPTION', 'resetFormat', resetFormat, accepted);
}
