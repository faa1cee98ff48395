// Memory: what tables may take, and what the process has.

import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

const MB = 2 ** 20;

/** Bytes that the tables of a limiter may take, whatever its keys are. */
export function mostMemoryBytes(maxPeers: number, peers: number): number {
  const most = Math.min(maxPeers, peers);
  // Pages and their chunks; two records and an offender for each peer, each table half empty at worst;
  // a name of 128 units; all long names together.
  return 8 * MB + most * (2 * (32 + 32 + 64) + 256) + Math.max(MB, 64 * maxPeers);
}

let collect: (() => void) | undefined;

export interface Held {
  /** Bytes of the process that the system sees. */
  readonly resident: number;
  /** Without what V8 has in store for itself, which comes and goes by its own rules. */
  readonly held: number;
}

/** What this process holds, once what can be collected has been. */
export function heldMemory(): Held {
  if (collect === undefined) {
    setFlagsFromString('--expose-gc');
    collect = runInNewContext('gc') as () => void;
  }
  collect();
  const { rss, heapTotal, heapUsed } = process.memoryUsage();
  return { resident: rss, held: rss - (heapTotal - heapUsed) };
}
