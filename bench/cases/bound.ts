// Newcomers at the bound: what finding the place of another costs, beside a table with room.

import type { RateLimiter } from 'relay-limiter';
import { NATIVE, ours, proven, requirePeers, TYPESCRIPT } from '../contestants.js';
import { peerKey, shuffled } from '../keys.js';
import { timeOf } from '../timing.js';
import type { Case, Round } from './case.js';

const BURST = 10;
// Peers that are checked while the others come, and one newcomer for so many peers in a round.
const KNOWN = 20_000;
const PEERS_PER_NEWCOMER = 10;
// Tokens a second of which any bucket is full at once.
const PLENTY = 1e12;

export const bound: Case = {
  name: 'maxpeers',
  title: 'newcomers where there are maxPeers, and where there is room',
  sizes: [100_000, 1_000_000],
  contestants: () => [TYPESCRIPT, NATIVE],
  rounds: 11,
  fresh: false,
  metrics: [
    { name: 'full', unit: 'ns', label: 'full' },
    { name: 'half', unit: 'ns', label: 'half empty' },
    { name: 'refilled', unit: 'ns', label: 'full of fresh' },
    { name: 'violators', unit: 'ns', label: 'full of violators' },
    { name: 'longest', unit: 'ms', label: 'longest one, full' },
    { name: 'knownFull', unit: 'ns', label: 'known peer, full' },
    { name: 'knownHalf', unit: 'ns', label: 'known peer, half empty' },
  ],
  prepare: async (contestant, size) => {
    await proven(contestant, BURST);
    const newcomers = newKeys();
    const known = Array.from({ length: Math.min(KNOWN, size / 4) }, newcomers);
    const limiter = (burst: number, rate?: number) =>
      ours(contestant, burst, { maxPeers: size, rate });
    const half = withPeers(limiter(BURST), known, size / 2, newcomers);
    const full = withPeers(limiter(BURST), known, size, newcomers);
    const refilled = withPeers(limiter(BURST, PLENTY), known, size, newcomers);
    const violators = withPeers(limiter(1), [], size, newcomers);
    const order = shuffled(known);
    const longest = longestOf(full, newcomers, size);
    const timeKnown = (one: RateLimiter) =>
      (timeOf(() => checkAll(one, order, 0)) / order.length) * 1e6;
    return (): Round => {
      const keys = Array.from({ length: size / PEERS_PER_NEWCOMER }, newcomers);
      const time = (one: RateLimiter) => (timeOf(() => checkAll(one, keys, 1)) / keys.length) * 1e6;
      const figures = {
        knownHalf: timeKnown(half),
        knownFull: timeKnown(full),
        half: time(half),
        full: time(full),
        refilled: time(refilled),
        violators: time(violators),
        longest,
      };
      for (const key of keys) half.removePeer(key);
      // All of them are violators again.
      checkAll(violators, keys, 1);
      requirePeers(half, size / 2);
      for (const one of [full, refilled, violators]) requirePeers(one, size);
      return { figures };
    };
  },
};

/** Keys that nobody had, one a call. */
function newKeys(): () => string {
  let last = 0;
  return () => {
    last += 1;
    return peerKey(last);
  };
}

/** Who is known has used most of its burst, so that others go first; the others have used a token, or offended. */
function withPeers(
  limiter: RateLimiter,
  known: readonly string[],
  size: number,
  newcomers: () => string,
): RateLimiter {
  checkAll(limiter, known, BURST - 1);
  for (let n = known.length; n < size; n += 1) {
    const key = newcomers();
    limiter.check(key);
    if (limiter.burstLimit === 1) limiter.check(key);
  }
  requirePeers(limiter, size);
  return limiter;
}

/** Milliseconds of the longest of so many newcomers: as many as there are peers, or some would miss it. */
function longestOf(limiter: RateLimiter, newcomers: () => string, count: number): number {
  let longest = 0;
  for (let n = 0; n < count; n += 1) {
    const key = newcomers();
    longest = Math.max(
      longest,
      timeOf(() => limiter.check(key)),
    );
  }
  return longest;
}

function checkAll(limiter: RateLimiter, keys: readonly string[], cost: number): void {
  for (const key of keys) limiter.check(key, cost);
}
