import { headersOf } from '../headers/containers.js';
import { parseProblem } from '../headers/problem.js';
import type { RateLimitInfo } from '../headers/types.js';
import { peekText } from './bodies.js';

// The bounds for reading a problem body, so that a large or slow one does not hold up the response.
const MAX_BODY_BYTES = 65_536;
const MAX_BODY_SECONDS = 1;

/** The statuses that refuse a request temporarily, because there were too many. */
const REFUSALS: readonly unknown[] = [429, 503];

/**
 * Whether a response refuses its request temporarily, because there were too many. 403 is such a refusal if the
 * response says when to come back or that nothing remains: GitHub refuses in this way.
 */
export function isRefusal(status: number | undefined, info: RateLimitInfo): boolean {
  if (status !== 403) return REFUSALS.includes(status);
  const { retryAfterSeconds, limits } = info;
  return (retryAfterSeconds ?? 0) > 0 || limits.some(({ remaining }) => remaining === 0);
}

/** A response that says nothing about limits. */
export const NOTHING: RateLimitInfo = {
  policies: [],
  limits: [],
  retryAfterSeconds: null,
  ignored: [],
};

/** What a response means for later requests. */
export interface ResponseMeaning {
  readonly info: RateLimitInfo;
  readonly isRefused: boolean;
}

/**
 * Returns what a response means for later requests; undefined for nothing. A response that a cache has kept for
 * `ageSeconds` means nothing, unless it is a refusal: then its times are shorter by its age. `Retry-After` of a good
 * answer or of a redirection is about that one operation.
 *
 * @param refused whether the response is a refusal; undefined if its status decides
 */
export function meaningOf(
  info: RateLimitInfo,
  status: number | undefined,
  ageSeconds: number,
  refused: boolean | undefined,
): ResponseMeaning | undefined {
  const isRefused = refused ?? isRefusal(status, info);
  if (ageSeconds > 0) return isRefused ? { info: aged(info, ageSeconds), isRefused } : undefined;
  const isAboutOperation = !isRefused && status !== undefined && status < 400;
  const isWait = isAboutOperation && info.retryAfterSeconds !== null;
  return { info: isWait ? { ...info, retryAfterSeconds: null } : info, isRefused };
}

/** Returns what is left of a refusal after its age. What remains was true for other requests, unless it is nothing. */
function aged({ limits, retryAfterSeconds }: RateLimitInfo, ageSeconds: number): RateLimitInfo {
  const spent = limits.filter(({ remaining }) => remaining === 0);
  return {
    policies: [],
    limits: spent.flatMap((limit) => {
      const resetSeconds = (limit.resetSeconds ?? 0) - ageSeconds;
      return resetSeconds > 0 ? [{ ...limit, resetSeconds }] : [];
    }),
    retryAfterSeconds:
      retryAfterSeconds === null ? null : Math.max(0, retryAfterSeconds - ageSeconds),
    ignored: [],
  };
}

/**
 * Returns the policies that the problem body of a refusal names as violated; none if the body does not arrive within
 * `secondsLeft` or before `signal` aborts. The caller can still read the response.
 */
export async function readViolatedPolicies(
  response: Response,
  secondsLeft: number,
  signal: AbortSignal | undefined,
): Promise<string[]> {
  // Responses of tests may have no headers, or plain objects.
  const type = headersOf(response.headers ?? {}).get('content-type') ?? '';
  if (!/^application\/problem\+json\b/i.test(type)) return [];
  const seconds = Math.min(secondsLeft, MAX_BODY_SECONDS);
  const text = await peekText(response, { maxBytes: MAX_BODY_BYTES, seconds, signal });
  return parseProblem(text, response.status).violated;
}
