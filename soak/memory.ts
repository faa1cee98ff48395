// Memory: what tables may take, and what the process has.

import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

const MB = 2 ** 20;

/** Bytes that the tables of a limiter may take, whatever its keys are. */
export function mostMemoryBytes(maxPeers: number, peers: number): number {
  const most = Math.min(2 * maxPeers, peers);
  // Pages and their chunks; two records and an offender for each peer, each table half empty at worst;
  // a name of 128 units; all long names together.
  return 8 * MB + most * (2 * (32 + 32 + 64) + 256) + Math.max(MB, 64 * maxPeers);
}

let collect: (() => void) | undefined;

export interface Memory {
  /** Bytes of the process that the system sees: with what V8 keeps in store for itself. */
  readonly resident: number;
  /** Bytes of the heap that are in use, and of the tables outside it. */
  readonly inUse: number;
}

/** What this process has, once what can be collected has been. */
export function memory(): Memory {
  if (collect === undefined) {
    setFlagsFromString('--expose-gc');
    collect = runInNewContext('gc') as () => void;
  }
  // V8 gives its pages back a few at a time.
  for (let n = 0; n < 5; n += 1) collect();
  const { rss, heapUsed, external } = process.memoryUsage();
  return { resident: rss, inUse: heapUsed + external };
}

/** Whether there is more than comes and goes without anything being kept. */
export function grew(before: Memory, after: Memory): boolean {
  return after.resident > before.resident + 64 * MB || after.inUse > before.inUse + 8 * MB;
}

export function showMemory({ resident, inUse }: Memory): string {
  const [most, least] = [resident, inUse].map((bytes) => Math.round(bytes / MB));
  return `${most} MB resident, ${least} in use`;
}
