// Timing by the benchmark package: how often a piece of work is repeated until its time can be told.

import Benchmark from 'benchmark';

// Seconds that it spends on one contestant in one round.
const SECONDS = 0.3;

/** Nanoseconds for one of the `operations` that `work` does. */
export function time(work: () => void, operations: number): number {
  const benchmark = new Benchmark({ maxTime: SECONDS, fn: work });
  benchmark.run();
  return nanoseconds(benchmark, operations);
}

/** Milliseconds of work that cannot be repeated. */
export function timeOf(work: () => unknown): number {
  const before = performance.now();
  work();
  return performance.now() - before;
}

/** The same as `time`, of work that takes turns of the event loop. */
export function timeLater(work: () => Promise<void>, operations: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const fn = (deferred: { resolve(): void }) => {
      work().then(() => deferred.resolve(), reject);
    };
    const benchmark = new Benchmark({ maxTime: SECONDS, defer: true, fn });
    benchmark.on('complete', () => resolve(nanoseconds(benchmark, operations)));
    benchmark.run();
  });
}

function nanoseconds(benchmark: Benchmark, operations: number): number {
  const seconds = benchmark.stats?.mean;
  // It keeps what the work threw to itself.
  const { error } = benchmark as { error?: unknown };
  if (error !== undefined) throw error;
  if (!seconds) throw new Error('nothing was timed');
  return (seconds / operations) * 1e9;
}
