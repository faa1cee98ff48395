// support/processes.ts: a script that crashes or hangs must not look like one that failed.

import { describe, expect, test } from 'vitest';
import { run, runJson } from './support/processes.js';

describe('run', () => {
  test('names the signal that ended a script', () => {
    const crash = "process.kill(process.pid, 'SIGKILL'); setInterval(() => {}, 1000);";
    expect(run(crash)).toMatchObject({ status: null, signal: 'SIGKILL' });
    expect(() => runJson(crash)).toThrow('exit SIGKILL');
    expect(() => runJson('process.exit(3)')).toThrow('exit 3');
  });

  test('ends a script that hangs, and reports that', () => {
    const hang = 'setInterval(() => {}, 1000);';
    expect(run(hang, { timeoutMs: 300 })).toMatchObject({
      signal: 'SIGTERM',
      errorCode: 'ETIMEDOUT',
    });
    expect(() => runJson(hang, { timeoutMs: 300 })).toThrow('exit ETIMEDOUT');
  });
});
