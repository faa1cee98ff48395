// What a response says about limits, as `update` wants to know it.

import { FieldReader, type ResponseHeaders } from '../headers/fields.js';
import { parseRateLimitHeaders } from '../headers/parse.js';
import { parseProblem } from '../headers/problem.js';
import type { RateLimitInfo } from '../headers/types.js';
import { onAbort } from './abort.js';

/** More of a body is not read, nor for longer, to find out which policies were violated. */
const MOST_BYTES = 65_536;
const MOST_SECONDS = 1;

/** Whether a status says that there were too many requests, for now. */
export function isRefusal(status: number): boolean {
  return status === 429 || status === 503;
}

export interface News {
  readonly info: RateLimitInfo;
  readonly ageSeconds: number;
}

export function readNews(headers: ResponseHeaders): News {
  const age = new FieldReader(headers, false).value('age') ?? '';
  return {
    info: parseRateLimitHeaders(headers),
    ageSeconds: /^\d{1,15}$/.test(age) ? Number(age) : 0,
  };
}

/**
 * Policies that the body of a refusal names, if it does so within the seconds that are left and before
 * `signal` aborts. The response can still be read.
 */
export async function violatedPolicies(
  response: Response,
  secondsLeft: number,
  signal: AbortSignal | undefined,
): Promise<string[]> {
  const type = response.headers.get('content-type') ?? '';
  if (!isRefusal(response.status) || !/^application\/problem\+json\b/i.test(type)) return [];
  const seconds = Math.min(secondsLeft, MOST_SECONDS);
  return parseProblem(await readText(response.clone(), seconds, signal), response.status).violated;
}

async function readText(
  response: Response,
  seconds: number,
  signal: AbortSignal | undefined,
): Promise<string> {
  const reader = response.body?.getReader();
  const decoder = new TextDecoder();
  let text = '';
  if (reader === undefined) return text;
  // Of two branches of one body the first that is cancelled waits for the other.
  const leave = () => void reader.cancel().catch(() => {});
  const timer = setTimeout(leave, seconds * 1000);
  const unfollow = onAbort(signal, leave);
  try {
    for (let bytes = 0; bytes <= MOST_BYTES; ) {
      const { value, done } = await reader.read();
      if (done) return text + decoder.decode();
      bytes += value.byteLength;
      text += decoder.decode(value, { stream: true });
    }
    leave();
  } catch {
    // A body that breaks off names nobody; whoever reads it will see.
  } finally {
    clearTimeout(timer);
    unfollow();
  }
  return '';
}
