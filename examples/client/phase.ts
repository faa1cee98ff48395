// One phase: starts fresh servers, lets one client do all of the work, and returns the result.

import { setMaxListeners } from 'node:events';
import type { Client } from './clients.js';
import type { NodeSpec } from './nodes.js';
import { NodeServer, type Server } from './server.js';

export interface NodeResult {
  readonly spec: NodeSpec;
  readonly sent: number;
  readonly refused: number;
}

export interface PhaseResult {
  readonly nodes: readonly NodeResult[];
  /** Completed pieces of the work. */
  readonly done: number;
  readonly seconds: number;
}

/** The progress of a phase. */
export interface Progress {
  readonly servers: readonly Server[];
  readonly client: Client;
  readonly requests: number;
  readonly done: number;
}

/** The number of concurrent requests. */
export const WORKERS = 120;
/** Much longer than a phase normally takes. */
const MAX_SECONDS = 120;

/**
 * @param watch called with the progress at the start; returns a function that is called at the end
 * @param listen starts the server of a node
 */
export async function runPhase(
  clientOf: (servers: readonly Server[]) => Client,
  nodes: readonly NodeSpec[],
  requests: number,
  interruption: AbortSignal,
  watch: (progress: Progress) => () => void,
  listen: (spec: NodeSpec) => Promise<Server> = NodeServer.listen,
): Promise<PhaseResult> {
  const servers = await Promise.all(nodes.map((spec) => listen(spec)));
  const client = clientOf(servers);
  const progress = { servers, client, requests, done: 0 };
  const failure = new AbortController();
  const { signal } = failure;
  const interrupt = () => failure.abort(interruption.reason);
  interruption.addEventListener('abort', interrupt);
  if (interruption.aborted) interrupt();
  setMaxListeners(WORKERS, signal);
  const limit = setTimeout(
    () => failure.abort(new Error(`not done after ${MAX_SECONDS} s`)),
    MAX_SECONDS * 1000,
  );
  let next = 0;
  const work = async () => {
    // A new controller for each request, because fetch leaves listeners on a signal for a while.
    let request = new AbortController();
    const abort = () => request.abort(signal.reason);
    signal.addEventListener('abort', abort);
    while (next < requests && !signal.aborted) {
      request = new AbortController();
      await client.get(next++, request.signal);
      progress.done += 1;
    }
    signal.throwIfAborted();
  };
  const start = performance.now();
  const unwatch = watch(progress);
  try {
    await Promise.all(Array.from({ length: WORKERS }, work));
  } catch (error) {
    failure.abort(error);
    throw error;
  } finally {
    unwatch();
    clearTimeout(limit);
    interruption.removeEventListener('abort', interrupt);
    for (const server of servers) server.close();
  }
  const results = servers.map(({ spec, origin }) => {
    const { sent, refused } = client.tally.node(origin);
    return { spec, sent, refused };
  });
  return { nodes: results, done: progress.done, seconds: (performance.now() - start) / 1000 };
}
