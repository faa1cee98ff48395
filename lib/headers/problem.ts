// The problem types of the drafts since -09, for bodies of application/problem+json (RFC 9457).

import { isArray, isRevoked } from '../common/kinds.js';

/** A problem type, by the last part of its URI. */
export type ProblemName =
  | 'quota-exceeded'
  | 'temporary-reduced-capacity'
  | 'abnormal-usage-detected';

/** What a problem body says about rate limits. */
export interface RateLimitProblem {
  /** The problem type; null for any other body. */
  problem: ProblemName | null;
  /** The names of the violated policies; empty if the body names none. */
  violated: string[];
}

const TYPE_PREFIX = 'https://iana.org/assignments/http-problem-types#';

/** RFC 9457 requires the same title for all problems of a type. */
const TITLES: Readonly<Record<ProblemName, string>> = {
  'quota-exceeded': 'Quota exceeded',
  'temporary-reduced-capacity': 'Capacity reduced for some time',
  'abnormal-usage-detected': 'Abnormal usage detected',
};

const MAX_CHARACTERS = 65_536;
const MAX_NAMES = 64;

/**
 * Reads a problem body about rate limits, given as JSON text or as the parsed value. Never throws: for any other
 * body, `problem` is null and `violated` is empty. It ignores text of more than 65,536 characters, and policies
 * after the first 64.
 *
 * @param status the response's status; a response with a status below 400 has no problem body
 *
 * @example
 * import { parseProblem } from 'relay-limiter/headers';
 *
 * const body = `{
 *   "type": "https://iana.org/assignments/http-problem-types#quota-exceeded",
 *   "violated-policies": ["daily"]
 * }`;
 * console.log(parseProblem(body, 429)); // { problem: 'quota-exceeded', violated: ['daily'] }
 */
export function parseProblem(body: unknown, status?: number): RateLimitProblem {
  const none: RateLimitProblem = { problem: null, violated: [] };
  if (status !== undefined && status < 400) return none;
  const members = typeof body === 'string' ? parseJson(body) : body;
  if (typeof members !== 'object' || members === null || isRevoked(members)) return none;
  const { type, 'violated-policies': violated } = members as Record<string, unknown>;
  const problem = toProblemName(type);
  if (problem === null) return none;
  const names = isArray(violated) ? violated.slice(0, MAX_NAMES) : [];
  return {
    problem,
    violated: names.filter((name) => typeof name === 'string'),
  };
}

/**
 * Returns the JSON text of a problem body for a refusal, to be sent as `application/problem+json`.
 *
 * @param problem the problem type, and the names of the violated policies, which may be empty
 * @param status the response's status
 * @param detail an explanation of this occurrence for people
 *
 * @example
 * import { formatProblem } from 'relay-limiter/headers';
 *
 * const problem = { problem: 'quota-exceeded', violated: ['daily'] } as const;
 * console.log(formatProblem(problem, 429, 'The daily quota of 5,000 requests is spent.'));
 */
export function formatProblem(
  { problem, violated }: { problem: ProblemName; violated: readonly string[] },
  status: number,
  detail?: string,
): string {
  return JSON.stringify({
    type: `${TYPE_PREFIX}${problem}`,
    title: TITLES[problem],
    status,
    detail,
    'violated-policies': violated.length > 0 ? violated : undefined,
  });
}

function toProblemName(type: unknown): ProblemName | null {
  if (typeof type !== 'string' || !type.startsWith(TYPE_PREFIX)) return null;
  const name = type.slice(TYPE_PREFIX.length);
  return Object.hasOwn(TITLES, name) ? (name as ProblemName) : null;
}

function parseJson(text: string): unknown {
  if (text.length > MAX_CHARACTERS) return null;
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
