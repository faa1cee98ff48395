// The problem types of the drafts since -09, in a body of application/problem+json (RFC 9457).

export interface RateLimitProblem {
  /** Which of the three problem types; null for any other body. */
  problem: 'quota-exceeded' | 'temporary-reduced-capacity' | 'abnormal-usage-detected' | null;
  /** Names of the policies that were violated; none where the body does not say. */
  violated: string[];
}

const TYPE =
  /^https:\/\/iana\.org\/assignments\/http-problem-types#(quota-exceeded|temporary-reduced-capacity|abnormal-usage-detected)$/;

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
  if (typeof members !== 'object' || members === null) return none;
  const { type, 'violated-policies': violated } = members as Record<string, unknown>;
  const problem = typeof type === 'string' ? TYPE.exec(type)?.[1] : undefined;
  if (problem === undefined) return none;
  const names = Array.isArray(violated) ? violated.slice(0, MOST_NAMES) : [];
  return {
    problem: problem as RateLimitProblem['problem'],
    violated: names.filter((name) => typeof name === 'string'),
  };
}

function parseJson(text: string): unknown {
  if (text.length > MOST_CHARACTERS) return null;
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
