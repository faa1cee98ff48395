// Timing with the benchmark package, which decides how often a piece of work is repeated.

import Benchmark from 'benchmark';

// Seconds spent on one contestant in one round.
const SECONDS = 0.3;

/** Returns the nanoseconds per operation of `work`, which does `operations` of them. */
export function time(work: () => void, operations: number): number {
  const benchmark = new Benchmark({ maxTime: SECONDS, fn: work });
  benchmark.run();
  return nanoseconds(benchmark, operations);
}

/** Returns the milliseconds of one execution, for work that cannot be repeated. */
export function timeOf(work: () => unknown): number {
  const before = performance.now();
  work();
  return performance.now() - before;
}

/** Like `time`, for asynchronous work. */
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
  // The benchmark package catches errors of the work and only stores them.
  const { error } = benchmark as { error?: unknown };
  if (error !== undefined) throw error;
  if (!seconds) throw new Error('nothing was timed');
  return (seconds / operations) * 1e9;
}
