// The problem types of the drafts since -09, in a body of application/problem+json (RFC 9457).

import { isArray, isRevoked } from '../common/kinds.js';

type ProblemName = 'quota-exceeded' | 'temporary-reduced-capacity' | 'abnormal-usage-detected';

export interface RateLimitProblem {
  /** Which of the three problem types; null for any other body. */
  problem: ProblemName | null;
  /** Names of the policies that were violated; none where the body does not say. */
  violated: string[];
}

const TYPES = 'https://iana.org/assignments/http-problem-types#';

/** Of all problems of a type the same, as RFC 9457 wants it. */
const TITLES: Readonly<Record<ProblemName, string>> = {
  'quota-exceeded': 'Quota exceeded',
  'temporary-reduced-capacity': 'Capacity reduced for some time',
  'abnormal-usage-detected': 'Abnormal usage detected',
};

const MOST_CHARACTERS = 65_536;
const MOST_NAMES = 64;

/**
 * Reads the body of a refusal, as JSON text or as what that says. Never throws: what is no problem of
 * these types is none. Text of more than 65,536 characters is not read, and of the policies only the
 * first 64.
 *
 * @param status the response's status; below 400 a body describes no problem
 */
export function parseProblem(body: unknown, status?: number): RateLimitProblem {
  const none: RateLimitProblem = { problem: null, violated: [] };
  if (status !== undefined && status < 400) return none;
  const members = typeof body === 'string' ? parseJson(body) : body;
  if (typeof members !== 'object' || members === null || isRevoked(members)) return none;
  const { type, 'violated-policies': violated } = members as Record<string, unknown>;
  const problem = nameOf(type);
  if (problem === null) return none;
  const names = isArray(violated) ? violated.slice(0, MOST_NAMES) : [];
  return {
    problem,
    violated: names.filter((name) => typeof name === 'string'),
  };
}

/**
 * The body of a refusal, as JSON text for `application/problem+json`. `violated` may be empty.
 *
 * @param status the response's status
 * @param detail what people should read about this very refusal
 */
export function formatProblem(
  { problem, violated }: { problem: ProblemName; violated: readonly string[] },
  status: number,
  detail?: string,
): string {
  return JSON.stringify({
    type: `${TYPES}${problem}`,
    title: TITLES[problem],
    status,
    detail,
    'violated-policies': violated.length > 0 ? violated : undefined,
  });
}

function nameOf(type: unknown): ProblemName | null {
  if (typeof type !== 'string' || !type.startsWith(TYPES)) return null;
  const name = type.slice(TYPES.length);
  return Object.hasOwn(TITLES, name) ? (name as ProblemName) : null;
}

function parseJson(text: string): unknown {
  if (text.length > MOST_CHARACTERS) return null;
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
