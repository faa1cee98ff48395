// The program of the server that tests, demos, soak and benchmarks start.

import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { findServer } from '../../out/examples/fleet/server.js';

const folders = [1, 2].map(() => mkdtempSync(join(tmpdir(), 'relay-limiter-path-')));
const [first, second] = folders as [string, string];
const PATH = folders.join(delimiter);
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true });
});

function program(folder: string, name: string, mode = 0o755): string {
  const file = join(folder, name);
  writeFileSync(file, '');
  chmodSync(file, mode);
  return file;
}

describe.skipIf(process.platform === 'win32')('findServer', () => {
  it('prefers redis-server, wherever on the PATH, unless RELAY_LIMITER_STORE names another', () => {
    expect(findServer({ PATH })).toBeUndefined();
    expect(findServer({})).toBeUndefined();
    const valkey = program(first, 'valkey-server');
    expect(findServer({ PATH })).toBe(valkey);
    const redis = program(second, 'redis-server');
    expect(findServer({ PATH })).toBe(redis);
    expect(findServer({ PATH, RELAY_LIMITER_STORE: '' })).toBe(redis);
    expect(findServer({ PATH, RELAY_LIMITER_STORE: 'valkey-server' })).toBe(valkey);
    expect(findServer({ PATH: second, RELAY_LIMITER_STORE: valkey })).toBe(valkey);
  });

  it('throws if RELAY_LIMITER_STORE names no program, so that no test is skipped instead', () => {
    program(first, 'other-server', 0o644);
    for (const name of ['absent-server', 'other-server', join(first, 'absent-server')]) {
      expect(() => findServer({ PATH, RELAY_LIMITER_STORE: name })).toThrow(
        `RELAY_LIMITER_STORE must be a program on the PATH or its path, got ${name}`,
      );
    }
  });
});
