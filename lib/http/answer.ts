// The body of a refusal: problem details for programs, a sentence for clients that accept text but no JSON, or the
// user's own message.

import { invalidValue } from '../common/errors.js';
import { RateLimitAction } from '../common/types.js';
import { formatProblem } from '../headers/problem.js';
import type { Refusal } from './types.js';

export interface Answer {
  /** The value of Content-Type. */
  readonly type: string;
  readonly body: string;
}

const PROBLEM = 'application/problem+json; charset=utf-8';
const JSON_TYPE = 'application/json; charset=utf-8';
const TEXT = 'text/plain; charset=utf-8';

/** @throws `ERR_LIMITER_OPTION` for what the user's function must not return. */
export function requireMessage(message: unknown): void {
  if (typeof message === 'string' || (typeof message === 'object' && message !== null)) return;
  throw invalidValue('ERR_LIMITER_OPTION', 'message()', message, 'a string or an object');
}

/** The answer for a message of the user. @throws `ERR_LIMITER_OPTION` if it is none. */
export function customAnswer(message: string | object): Answer {
  requireMessage(message);
  return typeof message === 'string'
    ? { type: TEXT, body: message }
    : { type: JSON_TYPE, body: JSON.stringify(message) };
}

/** The answer if the user has set no message. `accept` is the Accept field of the request. */
export function standardAnswer(refusal: Refusal, accept: string | undefined): Answer {
  const sentence = sentenceOf(refusal);
  if (wantsText(accept)) return { type: TEXT, body: `${sentence}\n` };
  return { type: PROBLEM, body: problemOf(refusal, sentence) };
}

function problemOf({ action, reason, policy, scope, rule, statusCode }: Refusal, detail: string) {
  // No problem type of the drafts says that a client is not allowed at all.
  if (reason === 'denied') {
    return JSON.stringify({ type: 'about:blank', status: statusCode, detail });
  }
  const problem =
    action === RateLimitAction.DISCONNECT ? 'abnormal-usage-detected' : 'quota-exceeded';
  // A scope is no policy.
  const violated = scope !== null && rule === null ? [] : [policy];
  return formatProblem({ problem, violated }, statusCode, detail);
}

export function sentenceOf({ reason, retryAfterSeconds }: Refusal): string {
  if (reason === 'denied') return 'This client is not allowed.';
  if (retryAfterSeconds === null) {
    if (reason === 'ban') return 'This client is banned.';
    return 'This request is above the limit, and will always be.';
  }
  const seconds = retryAfterSeconds === 1 ? '1 second' : `${retryAfterSeconds} seconds`;
  return `Too many requests. Try again in ${seconds}.`;
}

/** Whether a client accepts text and does not name JSON, as browsers do. */
function wantsText(accept: string | undefined): boolean {
  return accept !== undefined && /\btext\/(?:plain|html|\*)/i.test(accept) && !/json/i.test(accept);
}
