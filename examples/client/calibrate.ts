// Measures how fast this machine can send requests, so that the limits of the servers bind on any machine.

import { TOTAL_RATE } from './nodes.js';
import { WORKERS } from './phase.js';
import { NodeServer } from './server.js';

const REQUESTS = 600;
/** How many times as fast as the limits of all nodes the machine must be. */
const MARGIN = 3;

/** Returns the scale of the nodes for a machine that sends so many requests per second. */
export function scaleOf(requestsPerSecond: number): number {
  return Math.min(1, requestsPerSecond / (MARGIN * TOTAL_RATE));
}

/** Resolves with the requests per second between a client and a server without limits. */
export async function measureRate(signal: AbortSignal): Promise<number> {
  const unlimited = { name: 'unlimited', draft: undefined, policies: [], configured: [] };
  const server = await NodeServer.listen({ ...unlimited, latencySeconds: 0 });
  let next = 0;
  const work = async () => {
    while (next++ < REQUESTS) {
      signal.throwIfAborted();
      await (await fetch(server.origin)).arrayBuffer();
    }
  };
  const start = performance.now();
  try {
    await Promise.all(Array.from({ length: WORKERS }, work));
  } finally {
    server.close();
  }
  return REQUESTS / ((performance.now() - start) / 1000);
}
