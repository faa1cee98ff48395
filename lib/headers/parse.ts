// What a response says about rate limits, by all that it says it with.

import { refused } from '../common/errors.js';
import { readOptions } from '../common/options.js';
import { readLimits, readPartitions, readPolicies, readTriple } from './drafts.js';
import { readFamilies } from './families.js';
import { FieldReader, type ResponseHeaders } from './fields.js';
import { type ResetFormat, type ResetReader, resetReader } from './resets.js';
import { parseHttpDate, parseRetryAfter, requireNow } from './retry-after.js';
import type { RateLimitInfo } from './types.js';

export interface ParseOptions {
  /**
   * Epoch milliseconds at which the response came, from which dates in it are counted. Default: the
   * response's own Date, since clocks differ, and where it has none this machine's clock.
   */
  now?: number | undefined;
  /** Reads by the letter of draft -11 and RFC 9110, and nothing older or newer. Default: false. */
  strict?: boolean | undefined;
  /** How this server says a reset, where its looks would mislead. Default: `auto`. */
  resetFormat?: ResetFormat | undefined;
}

const RESET_FORMATS: readonly unknown[] = [
  'auto',
  'delta',
  'epoch',
  'date',
] satisfies ResetFormat[];

/**
 * Reads what a response says about rate limits: RateLimit and RateLimit-Policy of every draft, the
 * RateLimit-Limit, -Remaining and -Reset of the first ones, the X-RateLimit families, and Retry-After.
 * Of several generations in one response the newest counts. A field that cannot be read is ignored and
 * named in `ignored`, whatever it holds; so is one of more than 4,096 characters, and of a field's
 * items those after the first 64.
 *
 * @throws ERR_LIMITER_OPTION for headers that are no Headers object, record or array of pairs, and for
 * options that are not accepted
 */
export function parseRateLimitHeaders(
  headers: ResponseHeaders,
  options?: ParseOptions,
): RateLimitInfo {
  const { now, strict, resetFormat } = parseOptions(options);
  const fields = new FieldReader(headers, strict);
  const time = () => now ?? parseHttpDate(fields.value('date') ?? '', Date.now()) ?? Date.now();
  const info: RateLimitInfo = {
    policies: readPolicies(fields),
    limits: readLimits(fields),
    retryAfterSeconds: null,
    ignored: fields.ignored,
  };
  if (!strict) readOthers(fields, info, resetReader(resetFormat, time));
  info.retryAfterSeconds = fields.read('retry-after', (text) => parseRetryAfter(text, time()));
  return info;
}

/** The generations before and after -11: of the older ones, only what no newer one has said. */
function readOthers(fields: FieldReader, info: RateLimitInfo, readReset: ResetReader): void {
  const partitions = readPartitions(fields);
  if (partitions.length > 0) info.partitions = partitions;
  if (info.limits.length > 0) return;
  const triple = readTriple(fields, readReset);
  info.limits = triple.limits;
  if (info.policies.length === 0) info.policies = triple.policies;
  if (info.limits.length === 0) info.limits = readFamilies(fields, readReset);
}

function parseOptions(options: unknown) {
  const {
    now,
    strict = false,
    resetFormat = 'auto',
  } = readOptions('parseRateLimitHeaders', options, ['now', 'strict', 'resetFormat']);
  if (now !== undefined) requireNow(now);
  if (typeof strict !== 'boolean') {
    throw refused('ERR_LIMITER_OPTION', 'strict', strict, 'true or false');
  }
  if (!RESET_FORMATS.includes(resetFormat)) {
    const accepted = "'auto', 'delta', 'epoch' or 'date'";
    throw refused('ERR_LIMITER_OPTION', 'resetFormat', resetFormat, accepted);
  }
  return { now, strict, resetFormat: resetFormat as ResetFormat };
}
