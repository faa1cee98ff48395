// Files that are no shared table, or not one that this limiter may have: each is refused with one error, and stays as it
// is. Nothing half made is left behind.

import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { RateLimiter, removeShared } from 'relay-limiter';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { codeOf, TESTS_NATIVE } from '../support/limiters.js';
import { ROOT } from '../support/processes.js';
import { seeded } from '../support/random.js';
import { opened } from './support/opened.js';

// A token takes a quarter of an hour: none comes back while a test runs.
const OPTIONS = { rateLimit: 0.001, burstLimit: 50, maxPeers: 1000 };

describe.runIf(TESTS_NATIVE && process.platform !== 'win32')('A file', () => {
  let folder = '';
  let path = '';
  beforeEach(() => {
    // In memory where that is possible, as tables normally are.
    const parent = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();
    folder = mkdtempSync(join(parent, 'test-files-'));
    path = join(folder, 'table');
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  const open = (options: object = {}) =>
    opened('RateLimiter', { ...OPTIONS, ...options, shared: path });

  /** Makes a table with a peer in it, and leaves it. */
  function make(): void {
    const limiter = new RateLimiter({ ...OPTIONS, shared: path });
    limiter.check('alice', 40);
    limiter.close();
    limiter.close();
  }

  /** Expects that a limiter refuses the path for this reason, and that nothing in the folder changes. */
  function expectNotOpened(reason: string | RegExp): void {
    const before = readdirSync(folder);
    expect(() => open()).toThrow(reason);
    expect(codeOf(open)).toBe('ERR_LIMITER_SHARED');
    expect(readdirSync(folder)).toEqual(before);
  }

  /** The same, and that removeShared refuses it too. */
  function expectRefused(reason: string | RegExp): void {
    expectNotOpened(reason);
    expect(codeOf(() => removeShared(path))).toBe('ERR_LIMITER_SHARED');
    expect(existsSync(path)).toBe(true);
  }

  test('of a table is joined with what is in it, whoever made it', () => {
    make();
    const limiter = open();
    expect(limiter.getTokens('alice')).toBeCloseTo(10);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(open().shared).toMatchObject({ path, name: path, attached: 2, detached: false });
    expect(readdirSync(folder)).toEqual(['table']);
  });

  test.each([
    ['', 'too short'],
    ['relay', 'too short'],
    ['x'.repeat(100_000), 'not created by relay-limiter'],
    ['\0'.repeat(1_000_000), 'not created by relay-limiter'],
  ])('with other content is refused and stays as it is', (content, reason) => {
    writeFileSync(path, content, { mode: 0o600 });
    expectRefused(reason);
    expect(readFileSync(path, 'latin1')).toBe(content);
  });

  test('that was cut off, or lengthened, is refused, and removed as long as it can be known', () => {
    make();
    const { size } = statSync(path);
    for (const length of [size - 1, size + 4096, 100_000, 4096, 8]) {
      truncateSync(path, length);
      expectNotOpened(/too short|too long|damaged/);
      expect(statSync(path).size).toBe(length);
      expect(removeShared(path)).toBe(true);
      expect(existsSync(path)).toBe(false);
      make();
    }
    truncateSync(path, 7);
    expectRefused('too short');
  });

  test('of another version is removed once nobody uses it', () => {
    const limiter = open();
    const content = readFileSync(path);
    // The version follows eight bytes that say whose file it is.
    content.writeUInt32LE(content.readUInt32LE(8) + 1, 8);
    writeFileSync(path, content);
    expectNotOpened(/another version .* its layout is \d+, not \d+/);
    expect(() => removeShared(path)).toThrow('is in use');
    limiter.close();
    limiter.close();
    expect(removeShared(path)).toBe(true);
    make();
  });

  test('with a damaged header is refused', () => {
    make();
    const intact = readFileSync(path);
    const random = seeded(5);
    // The header's numbers; what follows changes while the table is used.
    for (let n = 0; n < 100; n += 1) {
      const damaged = Buffer.from(intact);
      const at = Math.floor(random() * 400);
      damaged[at] = (damaged[at] as number) ^ (1 << Math.floor(random() * 8));
      writeFileSync(path, damaged);
      expect(codeOf(open), `byte ${at}`).toBe('ERR_LIMITER_SHARED');
    }
    writeFileSync(path, intact);
    expect(open().getTokens('alice')).toBeCloseTo(10);
  });

  test('with random bytes behind its header ends no process', () => {
    make();
    const random = seeded(6);
    for (let n = 0; n < 20; n += 1) {
      const damaged = readFileSync(path);
      for (let at = 200_000; at < damaged.length; at += 1) damaged[at] = Math.floor(random() * 256);
      const other = `${path}-${n}`;
      writeFileSync(other, damaged, { mode: 0o600 });
      const limiter = opened('RateLimiter', { ...OPTIONS, shared: other });
      for (let key = 0; key < 3000; key += 1) limiter.check(`${key}`);
      limiter.getStats();
      limiter.cleanupOldPeers(0);
      limiter.snapshot();
      limiter.clear();
      expect(limiter.check('alice', 50)).toEqual(['allow', 0]);
      expect(limiter.check('alice')[0]).toBe('delay');
    }
  });

  test('that is not a regular file of its own is refused', () => {
    mkdirSync(path);
    expectRefused(/directory|no regular file/i);
    rmSync(path, { recursive: true });

    const other = path;
    make();
    path = join(folder, 'link');
    symlinkSync(other, path);
    expectRefused('symbolic link');
    rmSync(path);
    linkSync(other, path);
    expectRefused('several links');
    rmSync(path);
    path = other;
    chmodSync(path, 0o644);
    expectRefused('mode is not 0600');
    chmodSync(path, 0o600);
    expect(open().getTokens('alice')).toBeCloseTo(10);
  });

  test('in no folder, or below a file, cannot be created', () => {
    path = join(folder, 'none', 'table');
    expect(() => open()).toThrow(/cannot be created/);
    expect(codeOf(open)).toBe('ERR_LIMITER_SHARED');
    expect(removeShared(path)).toBe(false);
    writeFileSync(join(folder, 'file'), '');
    path = join(folder, 'file', 'table');
    expect(codeOf(open)).toBe('ERR_LIMITER_SHARED');
  });

  test('of other options is refused with both values', () => {
    make();
    for (const [options, reason] of [
      [{ rateLimit: 6 }, 'rateLimit 0.001, not 6'],
      [{ burstLimit: 60 }, 'burstLimit 50, not 60'],
      [{ maxPeers: 2000 }, 'maxPeers 1000, not 2000'],
      [{ disconnectThreshold: 3 }, /disconnectThreshold .*, not 3/],
    ] as const) {
      expect(() => open(options)).toThrow(reason);
      expect(codeOf(() => open(options))).toBe('ERR_LIMITER_SHARED');
    }
    expect(() => opened('OrderbookRateLimiter', { maxPeers: 1000, shared: path })).toThrow(
      'its limiter is RateLimiter, not OrderbookRateLimiter',
    );
    expect(open().getTokens('alice')).toBeCloseTo(10);
  });

  test('system without room is an error with the needed and the free bytes, and nothing is left', () => {
    // A file system of this process alone, for which it needs the rights of root.
    const script = `
      import { readdirSync } from 'node:fs';
      import { RateLimiter } from 'relay-limiter';
      const open = (maxPeers) => new RateLimiter({ maxPeers, shared: '/mnt/table' });
      try { open(100_000); } catch ({ code, message }) { console.log(code, message); }
      console.log(readdirSync('/mnt').length, open(100).check('alice')[0]);
    `;
    const mount = 'mount -t tmpfs -o size=1m,mode=0700 tmpfs /mnt && exec "$0" "$@"';
    const args = ['--mount', 'sh', '-c', mount, process.execPath, '--input-type=module', '-e'];
    if (spawnSync('unshare', [...args.slice(0, 3), mount, 'true']).status !== 0) return;
    const { stdout, stderr } = spawnSync('unshare', [...args, script], {
      cwd: ROOT,
      encoding: 'utf8',
    });
    expect(stderr).toBe('');
    expect(stdout).toMatch(/^ERR_LIMITER_MEMORY .*table needs \d+ bytes, \d+ are free\n0 allow\n$/);
  });
});
