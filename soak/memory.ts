// The memory that tables may use, and the memory that the process uses.

import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

const MB = 2 ** 20;

/** Returns the maximum number of bytes that the tables of a limiter may use, for any keys. */
export function maxMemoryBytes(maxPeers: number, peers: number): number {
  const most = Math.min(2 * maxPeers, peers);
  // 8 MB for pages and their chunks. For each peer two records and an offender (32 + 32 + 64 bytes), twice because a
  // table may be half empty, and a stored key of 128 code units (256 bytes). Then the limit for all long keys together.
  return 8 * MB + most * (2 * (32 + 32 + 64) + 256) + Math.max(MB, 64 * maxPeers);
}

/** The same for one scope of a RuleLimiter, whose records have up to 128 bytes, and whose offenders may have two more. */
export function maxRuleMemoryBytes(maxPeers: number, peers: number): number {
  const most = Math.min(2 * maxPeers, peers);
  return 24 * MB + most * (2 * (128 + 64 + 64) + 256) + Math.max(MB, 64 * maxPeers);
}

let collect: (() => void) | undefined;

export interface Memory {
  /** Resident bytes of the process, including memory that V8 holds in reserve. */
  readonly resident: number;
  /** Bytes in use in the heap, plus the bytes of the tables outside it. */
  readonly inUse: number;
}

/** Returns the memory of this process after a full garbage collection. */
export function memory(): Memory {
  if (collect === undefined) {
    setFlagsFromString('--expose-gc');
    collect = runInNewContext('gc') as () => void;
  }
  // Each collection returns only some of the free pages to the system.
  for (let n = 0; n < 5; n += 1) collect();
  const { rss, heapUsed, external } = process.memoryUsage();
  return { resident: rss, inUse: heapUsed + external };
}

/** Returns true if memory grew by more than its normal variation: 64 MB resident, 8 MB in use. */
export function grew(before: Memory, after: Memory): boolean {
  return after.resident > before.resident + 64 * MB || after.inUse > before.inUse + 8 * MB;
}

export function showMemory({ resident, inUse }: Memory): string {
  const [most, least] = [resident, inUse].map((bytes) => Math.round(bytes / MB));
  return `${most} MB resident, ${least} in use`;
}
