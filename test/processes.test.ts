// That tests hear how a process ended: one that crashes or hangs must not look like one that has failed.

import { expect, test } from 'vitest';
import { run, runJson } from './support/processes.js';

test('a process that a signal ends is told from one that fails', () => {
  const crash = "process.kill(process.pid, 'SIGKILL'); setInterval(() => {}, 1000);";
  expect(run(crash)).toMatchObject({ status: null, signal: 'SIGKILL' });
  expect(() => runJson(crash)).toThrow('exit SIGKILL');
  expect(() => runJson('process.exit(3)')).toThrow('exit 3');
});

test('a process that does not end is told from one that was killed', () => {
  const hang = 'setInterval(() => {}, 1000);';
  expect(run(hang, { timeoutMs: 300 })).toMatchObject({
    signal: 'SIGTERM',
    errorCode: 'ETIMEDOUT',
  });
  expect(() => runJson(hang, { timeoutMs: 300 })).toThrow('exit ETIMEDOUT');
});
