// The native engine where the system gives it no more memory, at every one of its allocations in turn: the
// call throws ERR_LIMITER_MEMORY, and afterwards the limiter does all that it should.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ROOT, runJson } from './support/processes.js';

interface Attempted {
  /** How many allocations there were to fail. */
  failed: number;
  said: string[];
  right: boolean;
}

const CALLS = JSON.stringify(new URL('support/failing-memory.mjs', import.meta.url).href);

// Preloading is Linux's. A sanitizer is preloaded itself, and has allocations of its own.
const preloads = process.platform === 'linux' && process.env['LD_PRELOAD'] === undefined;

describe.skipIf(!preloads)('the native engine without memory', () => {
  const folder = mkdtempSync(join(tmpdir(), 'relay-limiter-memory-'));
  const library = join(folder, 'failing-memory.so');

  beforeAll(() => {
    const source = join(ROOT, 'test/native/failing-memory.c');
    execFileSync('cc', ['-shared', '-fPIC', '-Wall', '-Wextra', '-Werror', source, '-o', library]);
  });
  afterAll(() => {
    rmSync(folder, { recursive: true });
  });

  test('every call, at every allocation', () => {
    const env = { RELAY_LIMITER_ENGINE: 'native', LD_PRELOAD: library };
    const outcomes = runJson(`import ${CALLS};`, { env }) as Record<string, Attempted>;
    let failures = 0;
    for (const [call, { failed, said, right }] of Object.entries(outcomes)) {
      expect.soft({ call, right, said }).toEqual({
        call,
        right: true,
        said: failed === 0 ? [] : ['ERR_LIMITER_MEMORY'],
      });
      failures += failed;
    }
    expect(failures).toBeGreaterThan(500);
  });
});
