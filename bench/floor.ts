// The benchmark's own addon, floor/floor.cc. It is loaded on first use, because tests of the rest of the benchmark do
// not need it.

import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

interface Floor {
  /** A native function that only receives a key: its time is the minimum cost of any native check. */
  length(key: string): number;
  /** Writes the time in milliseconds to `time[0]`, without allocating. */
  tick(): void;
  readonly time: Float64Array;
}

const require = createRequire(import.meta.url);

let addon: Floor | undefined;

export function floor(): Floor {
  addon ??= load();
  return addon;
}

function load(): Floor {
  const root = dirname(require.resolve('relay-limiter/package.json'));
  return require(join(root, 'bench/floor/build/Release/floor.node'));
}
