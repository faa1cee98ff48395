// npm run bench: what a check by key costs, against a plain Map and against the least that a native
// call can cost, as ratios within one run. bench/README.md says how to read it.

import Benchmark from 'benchmark';
import { type Check, CONTESTANTS, type Contestant } from './contestants.js';

const SIZES = [1_000, 1_000_000];
const ROUNDS = 7;
// Seconds that the benchmark package spends on one contestant in one round.
const ROUND_SECONDS = 0.4;

interface Result {
  name: string;
  /** Nanoseconds a check, one figure a round, in rising order. */
  times: number[];
}

for (const size of SIZES) {
  const results = measure(size);
  print(size, results);
}

/** Contestants take turns, so that what the machine does meanwhile meets them all. */
function measure(size: number): Result[] {
  const keys = peerKeys(size);
  const ready = CONTESTANTS.map((contestant) => prepare(contestant, keys));
  const results: Result[] = CONTESTANTS.map(({ name }) => ({ name, times: [] }));
  for (let round = 1; round <= ROUNDS; round += 1) {
    process.stderr.write(`\r${size.toLocaleString('en')} peers, round ${round} of ${ROUNDS} `);
    for (const [i, check] of ready.entries()) results[i]?.times.push(time(check, keys));
  }
  process.stderr.write('\r\x1b[K');
  for (const { times } of results) times.sort((a, b) => a - b);
  return results;
}

/** Creates every peer before anything is timed. */
function prepare(contestant: Contestant, keys: string[]): Check {
  const check = contestant.create();
  for (const key of keys) check(key);
  return check;
}

function time(check: Check, keys: string[]): number {
  let next = 0;
  const benchmark = new Benchmark({
    maxTime: ROUND_SECONDS,
    fn: () => {
      check(keys[next] as string);
      next = next + 1 === keys.length ? 0 : next + 1;
    },
  });
  benchmark.run();
  return (benchmark.stats?.mean ?? Number.NaN) * 1e9;
}

/** Addresses with ports, flat strings, in random order: no two neighbours are neighbours in memory. */
function peerKeys(size: number): string[] {
  const keys = Array.from({ length: size }, (_, n) =>
    Buffer.from(`10.${n & 255}.${(n >> 8) & 255}.${n >> 16}:${30_000 + (n % 30_000)}`).toString(),
  );
  for (let i = keys.length - 1; i > 0; i -= 1) {
    const j = Math.floor(Math.random() * (i + 1));
    [keys[i], keys[j]] = [keys[j] as string, keys[i] as string];
  }
  return keys;
}

function print(size: number, results: Result[]): void {
  const map = median(results.find(({ name }) => name === 'plain Map')?.times ?? []);
  console.log(
    `\ncheck by key, ${size.toLocaleString('en')} peers (ns, median of ${ROUNDS} rounds)`,
  );
  console.log('                        ns   lowest - highest   times as fast as a plain Map');
  for (const { name, times } of results) {
    const spread = `${times[0]?.toFixed(0)} - ${times.at(-1)?.toFixed(0)}`;
    const ratio = `${(map / median(times)).toFixed(2)}`;
    console.log(
      `  ${name.padEnd(16)} ${median(times).toFixed(0).padStart(7)} ${spread.padStart(18)} ${ratio.padStart(14)}`,
    );
  }
}

function median(sorted: number[]): number {
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}
