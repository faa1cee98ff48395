// The addon of the benchmark's own: floor/floor.cc.

import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

interface Floor {
  /** The least that a native function costs that is given a key. */
  length(key: string): number;
  /** Writes the time to `time[0]`, in milliseconds, and leaves no garbage. */
  tick(): void;
  readonly time: Float64Array;
}

const path = fileURLToPath(new URL('../../bench/floor/build/Release/floor.node', import.meta.url));
export const floor: Floor = createRequire(import.meta.url)(path);
