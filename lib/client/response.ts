// What a response says about rate limits, in the form that `update` takes.

import type { ResponseHeaders } from '../headers/containers.js';
import { type ResponseLimits, readResponse } from '../headers/parse.js';
import { parseProblem } from '../headers/problem.js';
import type { ResetFormat } from '../headers/resets.js';
import { onAbort } from './deadline.js';

// The bounds for reading a problem body, so that a large or slow one does not hold up the response.
const MAX_BODY_BYTES = 65_536;
const MAX_BODY_SECONDS = 1;

/** Whether a status refuses a request temporarily, because there were too many. */
export function isRefusal(status: number): boolean {
  return status === 429 || status === 503;
}

/** Reads what the headers of a response say about rate limits. */
export function readLimits(
  headers: ResponseHeaders,
  resetFormat: ResetFormat = 'auto',
): ResponseLimits {
  return readResponse(headers, { now: undefined, strict: false, resetFormat });
}

/**
 * Returns the policies that the body of a refusal names as violated; none if the body does not arrive within
 * `secondsLeft` or before `signal` aborts. The caller can still read the response.
 */
export async function readViolatedPolicies(
  response: Response,
  secondsLeft: number,
  signal: AbortSignal | undefined,
): Promise<string[]> {
  const type = response.headers.get('content-type') ?? '';
  if (!isRefusal(response.status) || !/^application\/problem\+json\b/i.test(type)) return [];
  const seconds = Math.min(secondsLeft, MAX_BODY_SECONDS);
  return parseProblem(await readText(response.clone(), seconds, signal), response.status).violated;
}

/** Returns the text of a body; an empty text if it breaks off or exceeds a bound. */
async function readText(
  response: Response,
  seconds: number,
  signal: AbortSignal | undefined,
): Promise<string> {
  const reader = response.body?.getReader();
  const decoder = new TextDecoder();
  let text = '';
  if (reader === undefined) return text;
  // Not awaited: when a body has two branches, cancelling the first waits until the second is cancelled too.
  const cancel = () => void reader.cancel().catch(() => {});
  const timer = setTimeout(cancel, seconds * 1000);
  const removeAbortCallback = onAbort(signal, cancel);
  try {
    for (let bytes = 0; bytes <= MAX_BODY_BYTES; ) {
      const { value, done } = await reader.read();
      if (done) return text + decoder.decode();
      bytes += value.byteLength;
      text += decoder.decode(value, { stream: true });
    }
    cancel();
  } catch {
    // A body that breaks off names no policies. The caller gets the error when reading its own branch.
  } finally {
    clearTimeout(timer);
    removeAbortCallback();
  }
  return '';
}
