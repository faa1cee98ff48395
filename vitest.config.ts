// Four groups of tests, told apart by the file's name (CONTRIBUTING.md, "Tests").

import { configDefaults, defineConfig } from 'vitest/config';

const REAL = 'test/**/*.real.test.ts';
const LONG = 'test/**/*.long.test.ts';
const MACHINE = 'test/**/*.machine.test.ts';
/**
 * Node loads what is built: transforming it again for each of these files, which have processes of their own, would take
 * a fifth of their time. Unit tests reset modules, which only transformed ones can be.
 */
const AS_BUILT = { deps: { external: [/\/(dist|out)\//] } };
/** Real tests mostly wait for processes, sockets and timers: more files at a time than most machines have cores. */
const REAL_WORKERS = 6;
/** Real tests that decide how the package is loaded. */
const ALONE = ['test/recipes/recipes.real.test.ts'];
/** Says which tests are skipped. */
const FIND_SERVER = 'test/redis/support/find-server.ts';

export default defineConfig({
  test: {
    // Generous: a test that waits for an outcome must never fail because the machine is busy. Where this is one of
    // fifty processes, a second's work takes a minute.
    testTimeout: 300_000,
    hookTimeout: 300_000,
    expect: { poll: { timeout: 240_000, interval: 20 } },
    // One group after the other.
    projects: [
      // No real time: injected clocks, forced events. Files share a process, which saves a third of the time: a test
      // puts back whatever it replaces.
      {
        extends: true,
        test: {
          name: 'unit',
          include: ['test/**/*.test.ts'],
          exclude: [...configDefaults.exclude, REAL, LONG, MACHINE],
          isolate: false,
          setupFiles: [
            'test/support/hrtime.ts',
            'test/support/left-timers.ts',
            'test/support/real-timers.ts',
          ],
          // By default Vitest runs one file at a time on two cores.
          maxWorkers: 2,
          sequence: { groupOrder: 0 },
        },
      },
      // Real sockets, processes, stores and timers: what must never happen, and what happens in the end. They share
      // processes: to start one for each file, with
      // the package and its peers, took half the time.
      {
        extends: true,
        test: {
          name: 'real',
          include: [REAL],
          exclude: [...configDefaults.exclude, ...ALONE],
          server: AS_BUILT,
          globalSetup: FIND_SERVER,
          isolate: false,
          setupFiles: ['test/support/fresh-modules.ts', 'test/support/real-timers.ts'],
          maxWorkers: REAL_WORKERS,
          sequence: { groupOrder: 1 },
        },
      },
      {
        extends: true,
        test: {
          name: 'real-alone',
          include: ALONE,
          server: AS_BUILT,
          maxWorkers: REAL_WORKERS,
          sequence: { groupOrder: 1 },
        },
      },
      // As the real tests, but long: other people's bundlers, compilers and browsers, and processes by the dozen. Not part
      // of `npm test`.
      {
        extends: true,
        test: {
          name: 'long',
          include: [LONG],
          server: AS_BUILT,
          maxWorkers: 2,
          sequence: { groupOrder: 2 },
        },
      },
      // Memory, garbage collection, pauses: not part of `npm test`.
      {
        extends: true,
        test: {
          name: 'machine',
          include: [MACHINE],
          server: AS_BUILT,
          globalSetup: FIND_SERVER,
          fileParallelism: false,
          sequence: { groupOrder: 3 },
        },
      },
    ],
  },
});
