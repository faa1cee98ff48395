import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    testTimeout: 30_000,
    // A browser or a store that starts for the first time on a busy machine takes its time.
    hookTimeout: 60_000,
    expect: { poll: { timeout: 10_000 } },
    // Tests in real time, in hundreds: a shared machine that stands still in the middle of one fails it. A
    // fault fails twice.
    retry: process.env['CI'] === undefined ? 0 : 1,
    // Many tests wait for processes, or for time to pass: on two cores vitest would run one file at a time.
    maxWorkers: 2,
  },
});
