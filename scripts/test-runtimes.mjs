// Tests the package as users get it: packed, installed with scripts disabled, and run on every supported runtime, with
// and without its binaries. Then tests a browser bundle, and loads the binary on musl.
//
//   npm run test:runtimes               builds the binaries first
//   npm run test:runtimes -- --built    tests the binaries in prebuilds/
//   npm run test:runtimes -- --brief    without 32-bit ARM, the versions of Node between the oldest and the newest, and
//                                       the TypeScript engine in emulators

import {
  closeSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import vm from 'node:vm';
import { build } from 'esbuild';
import * as replays from '../test/support/replay.mjs';
import { pack } from './pack.mjs';
import { fetchRuntime, RUNTIMES } from './runtimes.mjs';
import { buildPrebuilds, fail, npm, root, run, table } from './tools.mjs';

const TRACES = [
  'TokenBucket',
  'RateLimiter',
  'OrderbookRateLimiter',
  'DirectConnectionRateLimiter',
];
const TRACE_FILES = TRACES.map((name) => `${name}-2001.jsonl.gz`);
const PREBUILDS = 'node_modules/relay-limiter/prebuilds';
const brief = process.argv.includes('--brief');
const runtimes = RUNTIMES.filter(({ isExtra }) => !brief || !isExtra);
const binaries = [...new Set(runtimes.map(({ binary }) => binary))];
const temporary = mkdtempSync(join(tmpdir(), 'relay-limiter-runtimes-'));
const rows = [['runtime', 'for', 'operations on native', 'on TypeScript']];
const failures = [];

process.on('exit', () => rmSync(temporary, { recursive: true, force: true }));
buildPrebuilds(binaries.map((binary) => binary.split('/')[0]));
const complete = install();
const bare = join(temporary, 'without-binaries');
cpSync(complete, bare, { recursive: true });
rmSync(join(bare, PREBUILDS), { recursive: true });
for (const runtime of runtimes) testRuntime(runtime);
testDenied();
testMusl();
await testBrowser();
console.log(`\n${table(rows)}`);
for (const { title, output } of failures) console.error(`\n== ${title}\n${output.trim()}`);
process.exitCode = failures.length > 0 ? 1 : 0;

/** Returns a folder with the installed package and the files of the smoke suite. */
function install() {
  process.stdout.write('runtimes: packing and installing ... ');
  const folder = join(temporary, 'with-binaries');
  mkdirSync(folder);
  const { filename } = pack(folder);
  writeFileSync(join(folder, 'package.json'), '{ "private": true, "type": "module" }\n');
  const quiet = ['--prefer-offline', '--no-audit', '--no-fund', '--loglevel=error'];
  const installed = npm(['install', `./${filename}`, '--ignore-scripts', ...quiet], {
    cwd: folder,
  });
  if (installed.status !== 0) fail(installed.output);
  cpSync(join(root, 'test/smoke'), folder, { recursive: true });
  cpSync(join(root, 'test/support/replay.mjs'), join(folder, 'replay.mjs'));
  for (const file of TRACE_FILES) {
    cpSync(join(root, 'test/traces/float', file), join(folder, file));
  }
  console.log('done');
  return folder;
}

function testRuntime(runtime) {
  const platform = runtime.binary.split('/')[0];
  process.stdout.write(`runtimes: ${runtime.name} on ${platform} ... `);
  const how = fetchRuntime(runtime);
  if (how.missing !== undefined) return report(runtime.name, platform, [how]);
  const title = `${runtime.name.split(' ')[0]} ${how.version}`;
  const emulated = runtime.under !== undefined;
  const under = emulated ? `, under ${runtime.under}` : '';
  report(title, `${platform}${under}`, [
    // Without binaries one trace suffices: with them all are repeated on both engines, except in an emulator, which is
    // slow, and where the TypeScript engine is the same JavaScript.
    smoke(how, complete, { engine: 'native', ...runtime, repeatsOnJs: !emulated }),
    emulated && brief
      ? { none: true }
      : smoke(how, bare, { engine: 'js', ...runtime, traces: TRACE_FILES.slice(0, 1) }),
  ]);
}

/**
 * Runs the smoke suite, then the package's command. The command compares the engines at rates that reveal a fused
 * multiply-add, which a wrong build for arm64 contains; the rates of the traces do not reveal it.
 */
function smoke(how, folder, options) {
  const { engine, binary, require = true, traces = TRACE_FILES, repeatsOnJs = true } = options;
  const task = { engine, binary: `prebuilds/${binary}`, require, traces, repeatsOnJs };
  const started = performance.now();
  const suite = start(how, folder, ['smoke.mjs', JSON.stringify(task)]);
  if (suite.status !== 0) return { failed: suite.output };
  const done = JSON.parse(suite.stdout);
  const command = start(how, folder, ['node_modules/relay-limiter/dist/cli/index.js', '--json']);
  if (command.status !== 0) return { failed: command.output };
  const { engine: said, selfCheck } = JSON.parse(command.stdout);
  if (said !== engine || (engine === 'native') !== selfCheck?.agreed > 1000) {
    return { failed: command.output };
  }
  const random = selfCheck === null ? '' : `${selfCheck.agreed} random, `;
  return { passed: `${done.operations} of traces, ${random}${seconds(started)}` };
}

/** Runs a program with its output in files: Node's pipes are sockets, which programs under Wine do not support. */
function start({ command, args, env }, folder, more) {
  const files = ['stdout', 'stderr'].map((name) => join(temporary, name));
  const streams = files.map((file) => openSync(file, 'w'));
  const { status, output } = run(command, [...args, ...more], {
    cwd: folder,
    env: { ...process.env, NODE_OPTIONS: '', RELAY_LIMITER_ENGINE: '', ...env },
    stdio: ['ignore', ...streams],
    timeout: 300_000,
  });
  for (const stream of streams) closeSync(stream);
  const [stdout, stderr] = files.map((file) => readFileSync(file, 'utf8'));
  return { status, stdout, output: `${stdout}${stderr}${output}` };
}

/** Runs Deno without permissions: the package cannot look for its binary, and must work nevertheless. */
function testDenied() {
  process.stdout.write('runtimes: Deno, without permissions ... ');
  const how = fetchRuntime(RUNTIMES.find(({ name }) => name === 'Deno'));
  const outcome = how.missing === undefined ? denied(how) : how;
  report(`Deno ${how.version ?? ''}`, 'linux-x64, no permissions', [{ none: true }, outcome]);
}

function denied(how) {
  const { status, output } = start({ ...how, args: ['run', '--no-prompt'] }, complete, [
    'denied.mjs',
  ]);
  return status === 0 ? { passed: 'works' } : { failed: output };
}

/**
 * Checks that musl provides every symbol that the binary needs: a program linked with musl loads the binary. Binaries
 * for other architectures cannot be loaded here; they must not need other symbols, except three that every C library has:
 * on 32-bit ARM GCC calls `raise` and `memcmp`, and whether a process lives is asked by `kill`. node-gyp-build must also
 * choose the file if the C library is musl.
 */
function testMusl() {
  const [file, ...foreign] = binaries.filter((binary) => binary.startsWith('linux-'));
  process.stdout.write('runtimes: musl ... ');
  if (run('musl-gcc', ['--version']).status !== 0) {
    return report('musl', file, [{ missing: 'needs the Debian package musl-tools' }]);
  }
  const addon = join(complete, PREBUILDS, file);
  const symbols = symbolsNeededBy(addon);
  const stubs = symbols.filter((name) => /^(napi|node_api)_/.test(name));
  const source = join(temporary, 'stubs.c');
  writeFileSync(source, stubs.map((name) => `void ${name}(void) {}\n`).join(''));
  const program = join(temporary, 'musl');
  const loader = join(root, 'test/smoke/musl.c');
  const built = run('musl-gcc', ['-Wall', '-Werror', '-rdynamic', loader, source, '-o', program]);
  const { status, stdout, output } = built.status === 0 ? run(program, [addon]) : built;
  const works = status === 0 && stdout.trim() === '8';
  report('musl', 'linux-x64', [
    works ? { passed: `loaded, ${stubs.length} stubs` } : { failed: output },
  ]);
  testTablesOnMusl();
  for (const other of foreign) {
    const [platform] = other.split('/');
    process.stdout.write(`runtimes: musl on ${platform} ... `);
    const needed = symbolsNeededBy(join(complete, PREBUILDS, other));
    const more = needed.filter(
      (name) => !symbols.includes(name) && !['raise', 'kill', 'memcmp'].includes(name),
    );
    const same = needed.length > 0 && more.length === 0;
    report('musl', platform, [
      same
        ? { passed: 'needs no other symbols' }
        : { failed: `needs other symbols: ${more.join(', ') || '?'}` },
    ]);
  }
  process.stdout.write('runtimes: this Node, with LIBC=musl ... ');
  const how = { command: process.execPath, args: [], env: { LIBC: 'musl' } };
  report(`Node ${process.versions.node}`, 'linux-x64, LIBC=musl', [
    smoke(how, complete, { engine: 'native', binary: file }),
  ]);
}

/** Runs shared tables in a program of musl that is compiled as the addon is, with the types of glibc. */
function testTablesOnMusl() {
  process.stdout.write('runtimes: musl, shared tables ... ');
  const flags = '-std=c++17 -O2 -fPIE -ffp-contract=off -fno-exceptions -fno-rtti';
  const portable = '-fno-threadsafe-statics -U_FORTIFY_SOURCE -fno-stack-protector';
  const compile = [...flags.split(' '), ...portable.split(' '), '-c'];
  const objects = ['test/smoke/musl.cc', 'native/binding/new.cc'].map((source, i) => {
    return { source: join(root, source), object: join(temporary, `musl-${i}.o`) };
  });
  const library = run('g++', ['-print-file-name=libstdc++.a']).stdout.trim();
  const program = join(temporary, 'musl-tables');
  const steps = [
    ...objects.map(({ source, object }) => ['g++', [...compile, source, '-o', object]]),
    ['musl-gcc', [...objects.map(({ object }) => object), library, '-o', program]],
    [program, [join(temporary, 'table')]],
  ];
  let last = { status: 0, stdout: '', output: '' };
  for (const [command, args] of steps) {
    if (last.status === 0) last = run(command, args);
  }
  const works = last.status === 0 && last.stdout.trim() === 'shared';
  report('musl', 'linux-x64, shared tables', [
    works ? { passed: 'two limiters of each kind' } : { failed: last.output },
  ]);
}

/** Returns the undefined symbols of a binary, without glibc's version suffixes. */
function symbolsNeededBy(file) {
  const { stdout } = run('readelf', ['--dyn-syms', '--wide', file]);
  return [...stdout.matchAll(/ UND (\w+)/g)].map(([, name]) => name);
}

/** Bundles the main entry for browsers. The bundle must import nothing of Node, and replay the traces without Node. */
async function testBrowser() {
  process.stdout.write('runtimes: browser bundle ... ');
  const started = performance.now();
  try {
    const { outputFiles, metafile } = await build({
      entryPoints: [join(complete, 'browser.mjs')],
      bundle: true,
      platform: 'browser',
      format: 'iife',
      minify: true,
      write: false,
      metafile: true,
      logLevel: 'silent',
    });
    const native = Object.keys(metafile.inputs).filter((file) => /engine\/native|node:/.test(file));
    if (native.length > 0) throw new Error(`the bundle contains ${native}`);
    const world = vm.createContext({ crypto, performance, queueMicrotask });
    vm.runInContext(outputFiles[0].text, world);
    let operations = 0;
    for (const file of TRACE_FILES) {
      operations += replays.replay(replays.readTrace(join(complete, file)), world.library, 'js');
    }
    const { engine, reason } = world.library.engineInfo();
    if (engine !== 'js') throw new Error(`${engine}: ${reason}`);
    const size = `${(outputFiles[0].contents.length / 1024).toFixed(0)} KB`;
    report('browser', `bundle, ${size}`, [
      { none: true },
      { passed: `${operations} of traces, ${seconds(started)}` },
    ]);
  } catch (error) {
    report('browser', 'bundle', [{ none: true }, { failed: error.message }]);
  }
}

/** Prints a line of progress, adds a row to the table, and keeps the output of failures. */
function report(title, platform, outcomes) {
  const cells = outcomes.map(({ passed, none, missing }) => {
    if (none) return '';
    return passed ?? (missing === undefined ? 'FAILED' : `unavailable: ${missing}`);
  });
  for (const { failed, missing } of outcomes) {
    const output = failed ?? missing;
    if (output !== undefined) failures.push({ title: `${title} on ${platform}`, output });
  }
  rows.push([title, platform, cells[0], cells[1] ?? '']);
  console.log(cells.filter(Boolean).join('; '));
}

function seconds(started) {
  return `${((performance.now() - started) / 1000).toFixed(1)} s`;
}
