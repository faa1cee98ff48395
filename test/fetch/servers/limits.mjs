// The limits of the servers for Bun and Deno: a connection may send four messages, and is banned for the fifth. With the
// variable LATE_LIMITER each connection and each message also waits for an asynchronous limiter.

import { env } from 'node:process';
import { RuleLimiter } from 'relay-limiter';
import { rateLimit } from 'relay-limiter/fetch';
import { guardWebSockets } from 'relay-limiter/websocket';

export const limit = rateLimit({ limit: 5, windowSeconds: 3600 });

/** Allows everything, but later, as a SharedRateLimiter that waits for its store. */
const late = {
  rateLimit: 1,
  burstLimit: 1,
  checkWithTokens: () => new Promise((resolve) => setTimeout(resolve, 2, ['allow', 0, null])),
  removePeer() {},
};

export const guard = guardWebSockets({
  connections: { maxPerAddress: 2, ...(env.LATE_LIMITER && { limiter: late }) },
  ...(env.LATE_LIMITER && { messages: { limiter: late } }),
  limiter: new RuleLimiter({
    scopes: { connection: {} },
    rules: { messages: { scope: 'connection', quota: 4, windowSeconds: 3600 } },
    bans: { connection: { violations: 1, withinSeconds: 3600, seconds: 60 } },
  }),
});
