// Two clients that do the same work: one with relay-limiter, and a typical hand-written one.

import { limitFetch, UpstreamPool } from 'relay-limiter/client';
import type { Server } from './server.js';
import { Tally } from './tally.js';

export interface Client {
  readonly tally: Tally;
  /** Fetches one piece of the work, and retries until it succeeds. */
  get(piece: number, signal: AbortSignal): Promise<void>;
  /** The number of pieces that wait to be sent. */
  waiting(): number;
  /** Seconds until the client sends the next request to that node. */
  waitSeconds(origin: string): number;
}

/** A request may arrive this much later than others, because the process is busy with other work too. */
const JITTER_SECONDS = 0.25;

export function limitedClient(servers: readonly Server[]): Client {
  const file = servers.map(({ origin, spec }) => [origin, { policies: spec.configured }]);
  // Evenly, so that the screen shows a steady stream.
  const options = { algorithm: 'bucket', jitterSeconds: JITTER_SECONDS } as const;
  const pool = new UpstreamPool(Object.fromEntries(file), options);
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

/** Uses the nodes in turn. After a refusal it waits as long as the response says. */
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
        await pause(milliseconds, signal);
        waiting -= 1;
      }
    },
    waiting: () => waiting,
    waitSeconds: (origin) => Math.max(0, (waits.get(origin) ?? 0) - performance.now()) / 1000,
  };
}

/** Resolves after a time; rejects if the signal is aborted before. */
function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    const abort = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    // The signal belongs to one request, so its listeners go with it.
    signal.addEventListener('abort', abort, { once: true });
  });
}
