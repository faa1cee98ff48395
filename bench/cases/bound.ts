// Newcomers in a full table: the cost of evicting a peer, compared with a table that has space.

import type { RateLimiter } from 'relay-limiter';
import { NATIVE, ours, proven, requirePeers, TYPESCRIPT } from '../contestants.js';
import { peerKey, shuffled } from '../keys.js';
import { timeOf } from '../timing.js';
import type { Case, Round } from './case.js';

const BURST = 10;
// Peers that are checked while newcomers arrive, and the number of peers per newcomer in a round.
const KNOWN = 20_000;
const PEERS_PER_NEWCOMER = 10;
// Tokens per second: any bucket is full again at once.
const FAST_RATE = 1e12;

export const bound: Case = {
  name: 'maxpeers',
  title: 'newcomers in a full table, and in one with free space',
  sizes: [100_000, 1_000_000],
  contestants: () => [TYPESCRIPT, NATIVE],
  rounds: 11,
  fresh: false,
  metrics: [
    { name: 'full', unit: 'ns', label: 'full' },
    { name: 'half', unit: 'ns', label: 'half empty' },
    { name: 'refilled', unit: 'ns', label: 'full of fresh peers' },
    { name: 'violators', unit: 'ns', label: 'full of violators' },
    { name: 'longest', unit: 'ms', label: 'longest, full' },
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
    const refilled = withPeers(limiter(BURST, FAST_RATE), known, size, newcomers);
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
      // Makes all of them violators again.
      checkAll(violators, keys, 1);
      requirePeers(half, size / 2);
      for (const one of [full, refilled, violators]) requirePeers(one, size);
      return { figures };
    };
  },
};

/** Returns a function that returns a new key on each call. */
function newKeys(): () => string {
  let last = 0;
  return () => {
    last += 1;
    return peerKey(last);
  };
}

/** Known peers have used most of their burst, so that others are evicted first: those have used one token, or offended. */
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

/** Returns the longest time of a newcomer, in milliseconds. `count` equals the number of peers: fewer could miss it. */
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
