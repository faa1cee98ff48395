// Simulated servers, each with its own algorithm. They do not count refused requests.

import type { Policy } from './policies.js';

/** Returns true if the server accepts a request at `now`, in seconds. Times must not decrease. */
export type Server = (now: number) => boolean;

interface Quota {
  has(now: number): boolean;
  count(now: number): void;
}

/** A server with fixed windows. `phases`: when the first window begins, as a fraction of its length. */
export function fixedWindows(policies: readonly Policy[], phases: readonly number[]): Server {
  return server(
    policies.map(({ quota, windowSeconds }, at) => {
      let window = -1;
      let used = 0;
      const enter = (now: number) => {
        const current = Math.floor(now / windowSeconds + (phases[at] ?? 0));
        if (current !== window) used = 0;
        window = current;
      };
      return {
        has: (now) => {
          enter(now);
          return used < quota;
        },
        count: () => {
          used += 1;
        },
      };
    }),
  );
}

/** A server with sliding windows: it counts the accepted requests of the last `windowSeconds`. */
export function slidingLog(policies: readonly Policy[]): Server {
  return server(
    policies.map(({ quota, windowSeconds }) => {
      const times: number[] = [];
      return {
        has: (now) => {
          const oldest = times.at(-quota);
          return oldest === undefined || times.length < quota || now - oldest >= windowSeconds;
        },
        count: (now) => times.push(now),
      };
    }),
  );
}

/** A server with a token bucket for each policy, whose burst is the whole quota. */
export function tokenBuckets(policies: readonly Policy[]): Server {
  return server(
    policies.map(({ quota, windowSeconds }) => {
      let tokens = quota;
      let last = 0;
      return {
        has: (now) => {
          tokens = Math.min(quota, tokens + ((now - last) * quota) / windowSeconds);
          last = now;
          return tokens >= 1;
        },
        count: () => {
          tokens -= 1;
        },
      };
    }),
  );
}

/** Returns the number of requests that the server refuses. */
export function refusals(serve: Server, times: readonly number[]): number {
  return times.reduce((refused, now) => refused + (serve(now) ? 0 : 1), 0);
}

function server(quotas: readonly Quota[]): Server {
  return (now) => {
    const served = quotas.map((quota) => quota.has(now)).every(Boolean);
    if (served) for (const quota of quotas) quota.count(now);
    return served;
  };
}
