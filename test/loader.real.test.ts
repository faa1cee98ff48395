// Which engine runs: each case in a process of its own, on a copy of the package.

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { VERSION } from '../dist/common/version.js';
import { TESTS_NATIVE } from './support/limiters.js';
import { packageCopy, ROOT, run, runJson } from './support/processes.js';

const BINARY = 'build/Release/relay_limiter.node';
const PREBUILD = `prebuilds/${process.platform}-${process.arch}/relay-limiter.node`;
const binary = () => readFileSync(join(ROOT, BINARY));

/** Prints, of each copy of the package, what runs by default, and what insisting on each engine gives. */
const reportOf = (...copies: string[]) => `
  const attempt = (act) => {
    try {
      return act();
    } catch (error) {
      return { code: error.code, message: error.message, cause: error.cause?.message };
    }
  };
  const reports = [];
  for (const copy of ${JSON.stringify(copies)}) {
    const { engineInfo, RateLimiter } = await import(copy);
    const engineOf = (options) => attempt(() => {
      const limiter = new RateLimiter(options);
      return limiter.check('peer')[0] === 'allow' && limiter.engine;
    });
    reports.push({
      info: attempt(engineInfo),
      byDefault: engineOf(),
      auto: engineOf({ engine: 'auto' }),
      native: engineOf({ engine: 'native' }),
      js: engineOf({ engine: 'js' }),
      again: engineOf(),
    });
  }
  console.log(JSON.stringify(reports));
`;
type Report = Record<string, unknown>;

let copy: ReturnType<typeof packageCopy>;
beforeEach(() => {
  copy = packageCopy();
});
afterEach(() => copy.remove());

function report(env: Record<string, string> = {}): { report: Report; warnings: string } {
  const { stdout, stderr } = run(reportOf('relay-limiter'), { folder: copy.folder, env });
  return { report: JSON.parse(stdout)[0], warnings: stderr };
}

describe.runIf(TESTS_NATIVE)('where a binary fits', () => {
  test.each([BINARY, PREBUILD])('%s is loaded', (place) => {
    copy.copy(BINARY, place);
    const path = join(copy.folder, place);
    expect(report()).toEqual({
      report: {
        info: { engine: 'native', reason: 'a native binary is available', path, version: VERSION },
        byDefault: 'native',
        auto: 'native',
        native: 'native',
        js: 'js',
        again: 'native',
      },
      warnings: '',
    });
  });

  test('what was built here goes before what the package brings, unless PREBUILDS_ONLY is set', () => {
    copy.write(BINARY, 'not a binary');
    copy.copy(BINARY, PREBUILD);
    const reason = expect.stringContaining(`${join(copy.folder, BINARY)} failed to load: `);
    expect(report().report).toMatchObject({ info: { engine: 'js', reason } });
    const path = join(copy.folder, PREBUILD);
    expect(report({ PREBUILDS_ONLY: '1' })).toMatchObject({
      report: { info: { engine: 'native', path } },
      warnings: '',
    });
  });

  // LIBC is what node-gyp-build takes for the C library, whatever it is here.
  test.each(['glibc', 'musl'])('what the package brings serves a system with %s', (LIBC) => {
    copy.copy(BINARY, PREBUILD);
    const path = join(copy.folder, PREBUILD);
    expect(report({ LIBC })).toMatchObject({
      report: { info: { engine: 'native', path } },
      warnings: '',
    });
  });

  test.each([
    ['js', 'js', 'RELAY_LIMITER_ENGINE asks for js'],
    ['native', 'native', 'RELAY_LIMITER_ENGINE asks for native'],
    ['auto', 'native', 'a native binary is available'],
    ['', 'native', 'a native binary is available'],
  ])(
    'RELAY_LIMITER_ENGINE=%s is the default, and an option goes before it',
    (value, engine, reason) => {
      copy.copy(BINARY, BINARY);
      const { report: found } = report({ RELAY_LIMITER_ENGINE: value });
      expect(found).toMatchObject({
        info: { engine, reason },
        byDefault: engine,
        auto: 'native',
        native: 'native',
        js: 'js',
      });
    },
  );

  test('an engine nobody knows is an error, not a guess', () => {
    copy.copy(BINARY, BINARY);
    const { report: found } = report({ RELAY_LIMITER_ENGINE: 'rust' });
    const error = {
      code: 'ERR_LIMITER_ENGINE',
      message: 'RELAY_LIMITER_ENGINE must be auto, native or js, got "rust"',
    };
    expect(found).toMatchObject({ info: error, byDefault: error, native: 'native', js: 'js' });
  });
});

test('where there is no binary, TypeScript runs, without a warning', () => {
  const reason = `no native binary for ${process.platform}-${process.arch}`;
  expect(report()).toEqual({
    report: {
      info: { engine: 'js', reason, version: VERSION },
      byDefault: 'js',
      auto: 'js',
      native: {
        code: 'ERR_LIMITER_ENGINE',
        message: `the engine option asks for native, but ${reason}`,
      },
      js: 'js',
      again: 'js',
    },
    warnings: '',
  });
  const { report: insisted } = report({ RELAY_LIMITER_ENGINE: 'native' });
  expect(insisted).toMatchObject({
    info: { code: 'ERR_LIMITER_ENGINE' },
    byDefault: {
      code: 'ERR_LIMITER_ENGINE',
      message: `RELAY_LIMITER_ENGINE asks for native, but ${reason}`,
    },
    js: 'js',
  });
});

test('an addon of another application beside the program that runs is not loaded', () => {
  const platform = `${process.platform}-${process.arch}`;
  copy.write(`program/prebuilds/${platform}/app.node`, 'an addon of the application');
  const program = JSON.stringify(join(copy.folder, 'program/node'));
  const script = `process.execPath = ${program};\n${reportOf('relay-limiter')}`;
  const { stdout, stderr } = run(script, { folder: copy.folder });
  const reason = `no native binary for ${platform}`;
  expect(JSON.parse(stdout)).toMatchObject([{ info: { engine: 'js', reason }, byDefault: 'js' }]);
  expect(stderr).toBe('');
});

test.runIf(TESTS_NATIVE)(
  'a CommonJS script given as text, which has a __dirname of its own, gets the binary',
  () => {
    copy.copy(BINARY, BINARY);
    const script = `import('relay-limiter').then(({ engineInfo }) => console.log(engineInfo().path))`;
    const env = { ...process.env, RELAY_LIMITER_ENGINE: '' };
    const options = { cwd: copy.folder, env, encoding: 'utf8' } as const;
    const stdout = execFileSync(
      process.execPath,
      ['--input-type=commonjs', '--eval', script],
      options,
    );
    expect(stdout.trim()).toBe(join(copy.folder, BINARY));
  },
);

test.runIf(TESTS_NATIVE)('where there is not even node-gyp-build, TypeScript runs', () => {
  const bare = packageCopy({ dependencies: false });
  try {
    bare.copy(BINARY, BINARY);
    const { stdout, stderr } = run(reportOf('relay-limiter'), { folder: bare.folder });
    const reason = 'node-gyp-build, which finds native binaries, is not installed here';
    expect(JSON.parse(stdout)).toMatchObject([
      { info: { engine: 'js', reason }, byDefault: 'js', native: { code: 'ERR_LIMITER_ENGINE' } },
    ]);
    expect(stderr).toBe('');
  } finally {
    bare.remove();
  }
});

describe.runIf(TESTS_NATIVE)('where a binary is there and cannot run', () => {
  const SPOILED: [what: string, content: () => string | Buffer][] = [
    ['no binary at all', () => 'not a binary'],
    ['empty', () => ''],
    ['cut off in its header', () => binary().subarray(0, 60)],
    ['cut off after its header', () => binary().subarray(0, 64)],
    ['cut off in its code', () => binary().subarray(0, 20_000)],
    ['cut in half', () => binary().subarray(0, binary().length / 2)],
    ['without its last byte', () => binary().subarray(0, -1)],
    [
      'cut off where it has no table of sections',
      // The field of the header that leads to it, in 64 bits or 32.
      () =>
        binary()
          .subarray(0, 20_000)
          .fill(0, ...(binary()[4] === 2 ? ([40, 48] as const) : ([32, 36] as const))),
    ],
    [
      'of zeros behind its header',
      () => Buffer.alloc(binary().length).fill(binary().subarray(0, 64), 0, 64),
    ],
  ];

  // All in one process: to start one for each would take most of the time.
  test.each([
    [BINARY, SPOILED.slice(0, 1)],
    [PREBUILD, SPOILED],
  ])('in %s: one warning that names the file, then TypeScript', (place, spoiled) => {
    const copies = spoiled.map(() => packageCopy());
    try {
      spoiled.forEach(([, content], n) => void copies[n]?.write(place, content()));
      const urls = copies.map(({ folder }) => pathToFileURL(join(folder, 'dist/index.js')).href);
      const { status, signal, stdout, stderr } = run(reportOf(...urls));
      expect({ status, signal }).toEqual({ status: 0, signal: undefined });
      const reports = JSON.parse(stdout) as Report[];
      spoiled.forEach(([what], n) => {
        const path = join(String(copies[n]?.folder), place);
        expect(reports[n], what).toMatchObject({
          info: {
            engine: 'js',
            path,
            reason: expect.stringContaining(`${path} failed to load: `),
          },
          byDefault: 'js',
          native: { code: 'ERR_LIMITER_ENGINE', cause: expect.any(String) },
          js: 'js',
        });
        expect(stderr, what).toContain(`${path} failed to load: `);
      });
      expect(stderr.match(/relay-limiter: /g)).toHaveLength(spoiled.length);
      expect(stderr.match(/the TypeScript engine runs instead/g)).toHaveLength(spoiled.length);
    } finally {
      for (const { remove } of copies) remove();
    }
  });

  // Linux says of such a file that it is not there.
  test.runIf(process.platform === 'linux')(
    'for another processor: the same, and both are named',
    () => {
      const [foreign, machine] = process.arch === 'arm64' ? ['x64', 62] : ['arm64', 183];
      const patched = binary();
      patched.writeUInt16LE(machine, 18);
      copy.write(PREBUILD, patched);
      const { report: found, warnings } = report();
      const why = `the binary is for ${foreign}, this process runs on ${process.arch}`;
      expect(found).toMatchObject({
        info: { engine: 'js' },
        native: { code: 'ERR_LIMITER_ENGINE', cause: why },
      });
      expect(warnings).toContain(`${join(copy.folder, PREBUILD)} failed to load: ${why}`);
    },
  );

  test('of another version: the same, and both versions are named', () => {
    copy.copy(BINARY, BINARY);
    copy.write('dist/common/version.js', "export const VERSION = '99.0.0';");
    const { report: found, warnings } = report();
    const why = `binary version ${VERSION} does not match package version 99.0.0`;
    expect(found).toMatchObject({
      info: { engine: 'js', version: '99.0.0' },
      byDefault: 'js',
      native: { code: 'ERR_LIMITER_ENGINE', cause: why },
    });
    expect(warnings).toContain(why);
  });
});

test.runIf(TESTS_NATIVE)(
  'of this version, built from sources with another ABI version: TypeScript runs',
  () => {
    copy.copy(BINARY, BINARY);
    const file = 'dist/engine/native-limiters.js';
    const right = readFileSync(join(ROOT, file), 'utf8');
    copy.write(file, right.replace(/ABI_VERSION = \d+/, 'ABI_VERSION = 99'));
    const { report: found, warnings } = report();
    const why = 'the binary was built from other sources of this version';
    expect(found).toMatchObject({
      info: { engine: 'js' },
      native: { code: 'ERR_LIMITER_ENGINE', cause: why },
    });
    expect(warnings).toContain(why);
  },
);

test('the version is that of package.json', () => {
  expect(VERSION).toBe(JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')).version);
});

test('require() gives what import does', () => {
  const script = `
    import { createRequire } from 'node:module';
    import * as imported from 'relay-limiter';
    const required = createRequire(import.meta.url)('relay-limiter');
    console.log(JSON.stringify(Object.keys(imported).every((name) => imported[name] === required[name])));
  `;
  expect(runJson(script)).toBe(true);
});
