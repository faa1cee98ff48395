// The limits of the servers for Bun and Deno: a connection may send four messages, and is banned for the fifth.

import { RuleLimiter } from 'relay-limiter';
import { rateLimit } from 'relay-limiter/fetch';
import { guardWebSockets } from 'relay-limiter/websocket';

export const limit = rateLimit({ limit: 5, windowSeconds: 3600 });

export const guard = guardWebSockets({
  connections: { maxPerAddress: 2 },
  limiter: new RuleLimiter({
    scopes: { connection: {} },
    rules: { messages: { scope: 'connection', quota: 4, windowSeconds: 3600 } },
    bans: { connection: { violations: 1, withinSeconds: 3600, seconds: 60 } },
  }),
});
