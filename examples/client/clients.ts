// Two clients that do the same work: one with relay-limiter, one as it is often written.

import { setTimeout as delay } from 'node:timers/promises';
import { limitFetch, UpstreamPool } from 'relay-limiter/client';
import type { Server } from './server.js';
import { Tally } from './tally.js';

export interface Client {
  readonly tally: Tally;
  /** Gets one piece of the work, however long it takes. */
  get(piece: number, signal: AbortSignal): Promise<void>;
  /** How many pieces wait for their turn. */
  waiting(): number;
  /** Seconds until it will send something to that node. */
  waitSeconds(origin: string): number;
}

/** Requests may arrive so much later than others: this process has more to do than to send. */
const JITTER_SECONDS = 0.25;

export function limitedClient(servers: readonly Server[]): Client {
  const file = servers.map(({ origin, spec }) => [origin, { policies: spec.told }]);
  const pool = new UpstreamPool(Object.fromEntries(file), { jitterSeconds: JITTER_SECONDS });
  const tally = new Tally(fetch);
  const limited = limitFetch(tally.fetch, pool);
  return {
    tally,
    async get(piece, signal) {
      const response = await limited(`/pieces/${piece}`, { signal });
      await response.arrayBuffer();
      if (!response.ok) throw new Error(`piece ${piece} was answered with ${response.status}`);
    },
    waiting: () => pool.state().waiting,
    waitSeconds: (origin) => pool.state().nodes[origin]?.waitSeconds ?? 0,
  };
}

/** Takes the nodes in turn, and where it is refused waits for as long as it is told. */
export function naiveClient(servers: readonly Server[]): Client {
  const tally = new Tally(fetch);
  const waits = new Map<string, number>();
  let waiting = 0;
  return {
    tally,
    async get(piece, signal) {
      const { origin } = servers[piece % servers.length] as Server;
      for (;;) {
        const response = await tally.fetch(`${origin}/pieces/${piece}`, { signal });
        await response.arrayBuffer();
        if (response.status !== 429) return;
        const milliseconds = Number(response.headers.get('retry-after')) * 1000;
        waits.set(origin, performance.now() + milliseconds);
        waiting += 1;
        await delay(milliseconds, undefined, { signal });
        waiting -= 1;
      }
    },
    waiting: () => waiting,
    waitSeconds: (origin) => Math.max(0, (waits.get(origin) ?? 0) - performance.now()) / 1000,
  };
}
