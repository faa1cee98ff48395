// The HTTP answer to a request for a WebSocket that a guard refuses.

import type { Decision } from './verdicts.js';

export interface RefusalAnswer {
  readonly status: number;
  readonly text: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** The longest Retry-After in seconds. After a longer ban has ended early, a client still tries again within an hour. */
const MAX_RETRY_AFTER = 3600;

const headers = { 'Content-Type': 'text/plain' };
const FORBIDDEN: RefusalAnswer = { status: 403, text: 'Forbidden', headers };
const UNAVAILABLE: RefusalAnswer = { status: 503, text: 'Service Unavailable', headers };

/** A client that is denied will be denied again, so it gets no time to wait. */
export function refusalAnswer({ reason, delaySeconds }: Decision): RefusalAnswer {
  if (reason === 'denied') return FORBIDDEN;
  if (reason === 'error') return UNAVAILABLE;
  const seconds = Math.ceil(Math.min(Math.max(1, delaySeconds), MAX_RETRY_AFTER));
  const text = 'Too Many Requests';
  return { status: 429, text, headers: { ...headers, 'Retry-After': String(seconds) } };
}
