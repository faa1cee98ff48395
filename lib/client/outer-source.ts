// The limiter whose quota a request of another limiter takes too, as the queue of the latter sees it.

import type { LimiterRequest, OuterLimiter } from './options.js';
import type { OuterSource } from './queue.js';

/**
 * Returns the outer limiter of a limiter, which is `own`, or of the request. With both, the former takes the latter as its
 * outer limiter. Of the limiters that wait for it, the one that was idle for longest is first: its time without a request
 * counts as waiting, up to one step of priority. The server may begin a window with its next request, while the requests
 * of others have the rest of a window for themselves.
 */
export function outerSource(
  own: OuterLimiter | undefined,
  { cost, priority: given, within: ofRequest }: LimiterRequest,
  agingSeconds: number,
  idleSeconds: () => number,
): OuterSource | undefined {
  const outer = own ?? ofRequest;
  if (outer === undefined) return undefined;
  const within = outer === ofRequest ? undefined : ofRequest;
  return {
    tryTake: () => outer.tryLease(cost, { within }),
    acquire: (deadlineSeconds, signal) => {
      const steps = agingSeconds > 0 ? Math.min(1, idleSeconds() / agingSeconds) : 0;
      return outer.acquire({ cost, priority: given + steps, signal, deadlineSeconds, within });
    },
  };
}
