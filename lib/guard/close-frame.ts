// The close frame with which a guard ends a WebSocket: its code and its reason.

import type { MessageReason } from './verdicts.js';

const POLICY_VIOLATION = 1008;
/** The close codes for reasons other than a policy violation: 1013 is "try again later". */
const CODES: Partial<Record<MessageReason, number>> = {
  rate: 1013,
  pause: 1013,
  backlog: 1013,
  slow: 1013,
  error: 1011,
};

const REASONS: Partial<Record<MessageReason, string>> = {
  rate: 'rate limit exceeded, try again later',
  disconnect: 'rate limit exceeded',
  cost: 'message above the rate limit',
  pause: 'rate limit exceeded, try again later',
  backlog: 'too many messages at once',
  slow: 'messages are not read fast enough',
  error: 'internal error',
};

/** RFC 6455, 5.5: a control frame holds 125 bytes, and the close code takes two of them. */
const MAX_REASON_BYTES = 123;

/** `words`: the user's reason, which is cut to the length that a close frame can hold. */
export function closeFrame(reason: MessageReason, words = REASONS[reason]) {
  const code = CODES[reason] ?? POLICY_VIOLATION;
  return { code, text: truncate(words ?? 'policy violation') };
}

/** Cuts no character in two. */
function truncate(text: string): string {
  const bytes = new TextEncoder().encode(text);
  if (bytes.length <= MAX_REASON_BYTES) return text;
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  return decoder.decode(bytes.subarray(0, MAX_REASON_BYTES), { stream: true });
}
