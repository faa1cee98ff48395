// The results of a run: figures, machine and versions. They are stored as JSON, from which the report is written.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { arch, cpus, platform, release, totalmem } from 'node:os';

export interface Spread {
  median: number;
  low: number;
  high: number;
  /** The value of each round, in order. */
  values: number[];
}

export interface Result {
  case: string;
  peers: number;
  contestant: string;
  date: string;
  rounds: number;
  /** By metric; empty if the contestant was not measured. */
  figures: Record<string, Spread>;
  /** [peers, first metric] while the number of peers grew. */
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

/** Describes this machine and the versions of the measured packages. */
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
  // Not every package exports its manifest.
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
 * Returns the ratio of `theirs` to `own`: lower figures are better, so 2 means that `own` is twice as good. It is the
 * median of the ratios of the single rounds, because the contestants of one round ran under the same conditions.
 */
export function timesAsGood(theirs: Spread, own: Spread): number {
  return spread(own.values.map((value, round) => (theirs.values[round] ?? Number.NaN) / value))
    .median;
}

/**
 * Returns `results`, with results replaced by those of `later` for the same case and size.
 * @throws if the machine or a version differs: such figures do not belong in one report.
 */
export function merged(results: Results, later: Results): Results {
  if (JSON.stringify(results.about) !== JSON.stringify(later.about)) {
    throw new Error('the results in the file are of another machine or of other versions');
  }
  const again = new Set(later.results.map(keyOf));
  const kept = results.results.filter((result) => !again.has(keyOf(result)));
  return { about: later.about, results: [...kept, ...later.results] };
}

/** Results are replaced per case and size: their contestants are compared, so they must be measured together. */
function keyOf(result: Result): string {
  return `${result.case} ${result.peers}`;
}
