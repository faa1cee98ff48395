import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    testTimeout: 30_000,
    // A browser or a store that starts for the first time on a busy machine takes its time.
    hookTimeout: 60_000,
    expect: { poll: { timeout: 10_000 } },
    // Many tests wait for processes, or for time to pass: on two cores vitest would run one file at a time.
    maxWorkers: 2,
  },
});
