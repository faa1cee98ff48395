// Results: what a run measured, where, and with what. Kept as JSON; the report is made of it.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { arch, cpus, platform, release, totalmem } from 'node:os';

export interface Spread {
  median: number;
  low: number;
  high: number;
  /** Of each round, in their order. */
  values: number[];
}

export interface Result {
  case: string;
  peers: number;
  contestant: string;
  date: string;
  rounds: number;
  /** By metric; none where it was not measured. */
  figures: Record<string, Spread>;
  /** [peers, first metric] while the peers came in. */
  curve?: [number, number][];
  /** Why it was not measured. */
  note?: string;
}

export interface About {
  machine: string;
  system: string;
  node: string;
  packages: Record<string, string>;
}

export interface Results {
  about: About;
  results: Result[];
}

const MEASURED = ['relay-limiter', 'rate-limiter-flexible', 'limiter', '@hyperlimit/core'];

/** Where this process runs, and what it measures. */
export function about(): About {
  const [cpu] = cpus();
  const memory = `${Math.round(totalmem() / 2 ** 30)} GiB`;
  return {
    machine: `${cpus().length} cores of ${cpu?.model.trim()}, ${memory}`,
    system: `${platform()} ${release()} ${arch()}`,
    node: `${process.versions.node} (V8 ${process.versions.v8})`,
    packages: Object.fromEntries(MEASURED.map((name) => [name, versionOf(name)])),
  };
}

function versionOf(name: string): string {
  const require = createRequire(import.meta.url);
  // Not every package lets its manifest be asked for by name.
  const folder = require.resolve.paths(name)?.map((path) => `${path}/${name}/package.json`) ?? [];
  const own = new URL('../../package.json', import.meta.url);
  for (const path of name === 'relay-limiter' ? [own] : folder) {
    try {
      return JSON.parse(readFileSync(path, 'utf8')).version;
    } catch {}
  }
  return 'unknown';
}

export function spread(values: number[]): Spread {
  const sorted = values.slice().sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const [low, median, high] = [sorted[0], sorted[middle], sorted.at(-1)].map(
    (x) => x ?? Number.NaN,
  );
  return { median, low, high, values } as Spread;
}

/**
 * How many times as good `own` is as `theirs`, of which less is better: the median of what each round
 * says by itself, since all of one round have met the same machine.
 */
export function timesAsGood(theirs: Spread, own: Spread): number {
  return spread(own.values.map((value, round) => (theirs.values[round] ?? Number.NaN) / value))
    .median;
}

/**
 * `results` with those of `later` in the place of what they measured again.
 * @throws where the machine or a version is another: such figures do not belong in one report.
 */
export function merged(results: Results, later: Results): Results {
  if (JSON.stringify(results.about) !== JSON.stringify(later.about)) {
    throw new Error('those results are of another machine or of other versions');
  }
  const again = new Set(later.results.map(keyOf));
  const kept = results.results.filter((result) => !again.has(keyOf(result)));
  return { about: later.about, results: [...kept, ...later.results] };
}

/** Contestants of one case and size are compared, so they are measured together. */
function keyOf(result: Result): string {
  return `${result.case} ${result.peers}`;
}
