// What a refusal says, and in which form: problem details for programs, a sentence for who wants no JSON,
// or whatever the user gave. Knows no responses.

import { RateLimitAction } from '../common/types.js';
import { formatProblem } from '../headers/problem.js';
import type { Refusal } from './types.js';

/** The body of an answer. */
export interface Answer {
  readonly type: string;
  readonly body: string;
}

const PROBLEM = 'application/problem+json; charset=utf-8';
const JSON_TYPE = 'application/json; charset=utf-8';
const TEXT = 'text/plain; charset=utf-8';

/** Of the user's own words. */
export function answerOf(message: string | object): Answer {
  return typeof message === 'string'
    ? { type: TEXT, body: message }
    : { type: JSON_TYPE, body: JSON.stringify(message) };
}

/** Where the user has none. `accept` is the request's. */
export function standardAnswer(refusal: Refusal, accept: string | undefined): Answer {
  const sentence = sentenceOf(refusal);
  if (wantsText(accept)) return { type: TEXT, body: `${sentence}\n` };
  const { action, policy, statusCode } = refusal;
  const problem =
    action === RateLimitAction.DISCONNECT ? 'abnormal-usage-detected' : 'quota-exceeded';
  return {
    type: PROBLEM,
    body: formatProblem({ problem, violated: [policy] }, statusCode, sentence),
  };
}

/** For who wants no JSON. */
export function sentenceOf({ retryAfterSeconds }: Refusal): string {
  if (retryAfterSeconds === null) return 'This request is above the limit, and will always be.';
  const seconds = retryAfterSeconds === 1 ? '1 second' : `${retryAfterSeconds} seconds`;
  return `Too many requests. Try again in ${seconds}.`;
}

/** Who names text and no JSON: browsers, and curl where it is told so. */
function wantsText(accept: string | undefined): boolean {
  return accept !== undefined && /\btext\/(?:plain|html|\*)/i.test(accept) && !/json/i.test(accept);
}
