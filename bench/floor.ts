// The addon of the benchmark's own, floor/floor.cc: loaded when it is asked for, since the tests of the
// rest of the benchmark do without.

import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

interface Floor {
  /** The least that a native function costs that is given a key. */
  length(key: string): number;
  /** Writes the time to `time[0]`, in milliseconds, and leaves no garbage. */
  tick(): void;
  readonly time: Float64Array;
}

const require = createRequire(import.meta.url);

export function floor(): Floor {
  const root = dirname(require.resolve('relay-limiter/package.json'));
  return require(join(root, 'bench/floor/build/Release/floor.node'));
}
