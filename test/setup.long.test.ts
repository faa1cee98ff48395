// scripts/setup.mjs, which `npm start` and `npm test` run first, in a small project of its own: one whose build counts
// how often it ran, and makes an empty addon if there is a compiler and `CXX` does not name one that fails.

import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ROOT } from './support/processes.js';

const BUILD = `
  import { appendFileSync, mkdirSync, writeFileSync } from 'node:fs';
  import { beginAddon, beginSources, missingTools } from './built.mjs';
  import { lockBuild } from './lock.mjs';
  await lockBuild();
  const recordSources = beginSources();
  const recordAddon = beginAddon();
  if (process.env.EDITED) writeFileSync(process.env.EDITED, 'edited during the build');
  for (const folder of ['dist', 'build/Release']) mkdirSync(folder, { recursive: true });
  writeFileSync('dist/index.js', '');
  appendFileSync('builds', 'built;');
  recordSources();
  if (missingTools().length === 0 && !process.env.CXX?.endsWith('failing-compiler')) {
    writeFileSync('build/Release/relay_limiter.node', '');
    recordAddon();
  }
`;
const SCRIPTS = ['setup.mjs', 'built.mjs', 'lock.mjs'];
const [major, minor, patch] = process.versions.node.split('.').map(Number) as [
  number,
  number,
  number,
];

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'relay-limiter-setup-'));
  for (const part of ['scripts', 'lib', 'native', 'node_modules']) mkdirSync(join(folder, part));
  for (const name of SCRIPTS) {
    copyFileSync(join(ROOT, 'scripts', name), join(folder, 'scripts', name));
  }
  write('scripts/build.mjs', BUILD);
  write('lib/index.ts', 'export {};');
  write('native/addon.cc', 'int answer;');
  requireNode(`>=${process.versions.node}`);
  const packages = { '': {}, 'node_modules/one': { version: '1.0.0' } };
  const optional = { 'node_modules/two': { version: '2.0.0', optional: true } };
  write('package-lock.json', JSON.stringify({ packages: { ...packages, ...optional } }));
  write('node_modules/.package-lock.json', JSON.stringify({ packages }));
});

afterEach(() => rmSync(folder, { recursive: true, force: true }));

function write(path: string, text: string): void {
  writeFileSync(join(folder, path), text);
}

function requireNode(node: string): void {
  write('package.json', JSON.stringify({ version: '1.0.0', engines: { node }, type: 'module' }));
}

interface Setting {
  args?: string[];
  env?: NodeJS.ProcessEnv;
  uid?: number;
}

function setup({ args = [], env = {}, uid }: Setting = {}) {
  const { status, stdout, stderr } = spawnSync(process.execPath, ['scripts/setup.mjs', ...args], {
    cwd: folder,
    env: { ...process.env, RELAY_LIMITER_ENGINE: '', NODE_OPTIONS: '', ...env },
    encoding: 'utf8',
    ...(uid === undefined ? {} : { uid }),
  });
  return { status, stdout, stderr };
}

function builds(): number {
  const file = join(folder, 'builds');
  return existsSync(file) ? readFileSync(file, 'utf8').split(';').length - 1 : 0;
}

const DONE = { status: 0, stdout: '', stderr: '' };
/** One line of that kind, and nothing else. */
const line = (words: string) => ({
  status: 1,
  stdout: '',
  stderr: expect.stringMatching(new RegExp(`^relay-limiter: [^\\n]*${words}[^\\n]*\\n$`)),
});

describe('Setup builds', () => {
  test('once, whatever the times of files are afterwards', () => {
    expect(setup()).toEqual(DONE);
    expect(builds()).toBe(1);
    const later = new Date(Date.now() + 3_600_000);
    for (const path of ['lib/index.ts', 'native/addon.cc', 'package-lock.json']) {
      utimesSync(join(folder, path), later, later);
    }
    expect(setup()).toEqual(DONE);
    expect(builds()).toBe(1);
  });

  test.each([
    ['lib/index.ts', 'export const one = 1;'],
    ['native/addon.cc', 'int another;'],
  ])('again if %s has changed', (path, text) => {
    setup();
    write(path, text);
    expect(setup()).toEqual(DONE);
    expect(builds()).toBe(2);
    expect(setup()).toEqual(DONE);
    expect(builds()).toBe(2);
  });

  test.each(['lib/index.ts', 'native/addon.cc'])(
    'again if %s was edited during the build',
    (path) => {
      expect(setup({ env: { EDITED: path } })).toEqual(DONE);
      expect(setup()).toEqual(DONE);
      expect(builds()).toBe(2);
      expect(setup()).toEqual(DONE);
      expect(builds()).toBe(2);
    },
  );

  test('again if what was built is gone', () => {
    setup();
    rmSync(join(folder, 'dist'), { recursive: true });
    setup();
    expect(builds()).toBe(2);
  });

  // On Windows nobody looks for compilers.
  test.skipIf(process.platform === 'win32')('an addon only once there is a compiler', () => {
    const without = { env: { CXX: join(folder, 'no-compiler') } };
    setup(without);
    setup(without);
    expect(builds()).toBe(1);
    const env = { CXX: compiler('compiler') };
    setup({ env });
    setup({ env });
    expect(builds()).toBe(2);
  });

  test.skipIf(process.platform === 'win32')(
    'an addon again that could not be compiled, as the next attempt may succeed',
    () => {
      const failing = { env: { CXX: compiler('failing-compiler') } };
      setup(failing);
      setup(failing);
      expect(builds()).toBe(2);
      const env = { CXX: compiler('compiler') };
      setup({ env });
      setup({ env });
      expect(builds()).toBe(3);
    },
  );
});

/** Makes a program that `missingTools` takes for a compiler. */
function compiler(name: string): string {
  const program = join(folder, name);
  writeFileSync(program, '#!/bin/sh\n', { mode: 0o755 });
  return program;
}

describe('Of processes that build at the same time', () => {
  test('each waits for the one before, and none builds what that has built', async () => {
    // The lock of a process that ends with its input.
    const holder = spawn(process.execPath, ['-e', 'process.stdin.resume()']);
    mkdirSync(join(folder, 'out/.lock'), { recursive: true });
    write(`out/.lock/${holder.pid}`, '');
    const others = Array.from({ length: 3 }, () => {
      const child = spawn(process.execPath, ['scripts/setup.mjs'], { cwd: folder });
      return { said: once(child.stdout, 'data'), ended: once(child, 'exit') };
    });
    for (const [text] of await Promise.all(others.map(({ said }) => said))) {
      expect(String(text)).toBe(
        `relay-limiter: waiting for process ${holder.pid}, which builds here ...\n`,
      );
    }
    expect(builds()).toBe(0);
    holder.stdin.end();
    expect(await Promise.all(others.map(({ ended }) => ended))).toEqual(Array(3).fill([0, null]));
    expect(builds()).toBe(1);
    expect(readdirSync(join(folder, 'out'))).toEqual(['.built']);
  });
});

describe('Setup says in one line', () => {
  test.each([
    [`^${major}.${minor + 1}.0`],
    [`>=${major}.${minor}.${patch + 1}`],
    [`^${major + 1}.0.0 || >=${major + 2}.0.0`],
    [`^${major - 1}.0.0`],
  ])('that Node must be %s', (range) => {
    requireNode(range);
    expect(setup()).toEqual(line('Node must be .*, got '));
    expect(builds()).toBe(0);
  });

  test.each([
    [`^${major}.0.0`],
    [`^${major - 1}.0.0 || >=${major}.${minor}.${patch}`],
    [`>=${major - 1}.99.0`],
  ])('nothing where Node is of %s', (range) => {
    requireNode(range);
    expect(setup()).toEqual(DONE);
  });

  test('that npm cannot be run where a package is not installed', () => {
    write('node_modules/.package-lock.json', JSON.stringify({ packages: { '': {} } }));
    const { status, stderr } = setup({ env: { PATH: folder } });
    expect({ status, stderr }).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/^relay-limiter: npm, .* cannot be run: .*\n$/),
    });
    expect(builds()).toBe(0);
  });

  test.skipIf(process.platform === 'win32')('that the tests need a compiler', () => {
    const env = { CXX: join(folder, 'no-compiler') };
    expect(setup({ args: ['--tests'], env })).toEqual(line('without .*a C\\+\\+ compiler'));
    const { status } = setup({ args: ['--tests'], env: { ...env, RELAY_LIMITER_ENGINE: 'js' } });
    expect(status).toBe(0);
  });

  // Windows has no such rights; root writes everywhere, so there another user runs it.
  test.skipIf(process.platform === 'win32')(
    'that it cannot build where it may not write, and runs there once all is built',
    () => {
      const uid = process.getuid?.() === 0 ? { uid: 65534 } : {};
      chmodSync(folder, 0o555);
      expect(setup(uid)).toEqual(line('must be writable'));
      chmodSync(folder, 0o755);
      setup();
      chmodSync(folder, 0o555);
      expect(setup(uid)).toEqual(DONE);
      chmodSync(folder, 0o755);
    },
  );
});
