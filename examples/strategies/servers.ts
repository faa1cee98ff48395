// Servers that enforce policies, each in a way of its own. A request that is refused is not counted.

import type { Policy } from './policies.js';

/** Whether a server serves a request that comes at this time, in seconds. Times do not fall. */
export type Server = (now: number) => boolean;

interface Quota {
  has(now: number): boolean;
  count(now: number): void;
}

/** Windows that begin at times of the server's own: `phases`, a share of each window. */
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

/** What was served in the last window's length, at any time. */
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

/** A bucket of the whole quota for each policy. */
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

/** How many of the requests it refuses. */
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
