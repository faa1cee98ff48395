// Builds the binaries that the package carries into prebuilds/, all that this machine can:
//
//   npm run prebuildify                                    all of them; fails if one is missing
//   npm run prebuildify -- --only linux-x64,linux-arm64    these
//
// Each is built in a copy under out/prebuild/, so that the addon that the tests use stays where it is.
// The compiler's words are left there, in build.log.

import { cpSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { targetsOn } from './targets.mjs';
import { fail, node, nodeWithHeaders, require, root, run, table } from './tools.mjs';

// The oldest glibc that the Linux binaries may ask for: what Node 20 itself asks for is newer.
const OLDEST_GLIBC = '2.17';
// What some systems' compilers turn on by themselves, Ubuntu's among them, and what it costs: functions
// of glibc that musl has not, and the loader as a second library.
const PLAIN = '-U_FORTIFY_SOURCE -fno-stack-protector';

const wanted = chosen();
const rows = [['target', 'size', 'glibc', 'libraries']];
let missing = 0;
for (const [index, target] of wanted.entries()) {
  process.stdout.write(`prebuilds: ${target.name} (${index + 1} of ${wanted.length}) ... `);
  const started = performance.now();
  // An older binary must not pass for what could not be built.
  rmSync(join(root, 'prebuilds', target.name), { recursive: true, force: true });
  const needed = neededFor(target);
  if (needed !== undefined) {
    missing += 1;
    console.log('cannot be built here');
    rows.push([target.name, `not built: needs ${needed}`, '', '']);
    continue;
  }
  const folder = copySources(target);
  const { status, output } = isForMinGW(target)
    ? buildWithMinGW(target, folder)
    : buildWithPrebuildify(target, folder);
  writeFileSync(join(folder, 'build.log'), output);
  if (status !== 0) fail(`failed\n\n${output}`);
  console.log(`${((performance.now() - started) / 1000).toFixed(1)} s`);
  rows.push(inspect(target));
}
console.log(`\n${table(rows)}`);
process.exitCode = missing > 0 ? 1 : 0;

function chosen() {
  const targets = targetsOn(process.platform);
  const at = process.argv.indexOf('--only');
  if (at === -1) return targets;
  const names = (process.argv[at + 1] ?? '').split(',');
  const unknown = names.find((name) => !targets.some((target) => target.name === name));
  if (unknown !== undefined) {
    const known = targets.map(({ name }) => name).join(', ');
    fail(`prebuilds: ${unknown || 'nothing'} cannot be built here; --only takes ${known}`);
  }
  return targets.filter(({ name }) => names.includes(name));
}

/** The prefix of the compiler's programs: none for this machine's own. */
function prefix({ name, tools }) {
  const own = name === `${process.platform}-${process.arch}`;
  return own || process.platform !== 'linux' ? '' : tools;
}

function isForMinGW({ name }) {
  return name === 'win32-x64' && process.platform === 'linux';
}

/** What has to be there first, in words. */
function neededFor(target) {
  if (process.platform !== 'linux') return undefined;
  const tools = prefix(target);
  if (run(`${tools}g++`, ['--version']).status !== 0) {
    return `the Debian package ${tools === '' ? 'g++' : target.debian}`;
  }
  return isForMinGW(target) && nodeWithHeaders() === undefined
    ? 'a Node with its headers beside it'
    : undefined;
}

function copySources({ name }) {
  const folder = join(root, 'out/prebuild', name);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  for (const part of ['native', 'binding.gyp', 'package.json']) {
    cpSync(join(root, part), join(folder, part), { recursive: true });
  }
  return folder;
}

function buildWithPrebuildify(target, folder) {
  const [platform, arch] = target.name.split('-');
  const args = ['--napi', '--strip', '--cwd', folder, '--out', root];
  args.push('--platform', platform, '--arch', arch, '--target', process.versions.node);
  const env = { ...process.env };
  const headers = nodeWithHeaders();
  if (headers !== undefined) env['npm_config_nodedir'] = headers;
  if (platform === 'linux') {
    const tools = prefix(target);
    args.push('--strip-bin', `${tools}strip`);
    if (arch === 'arm') args.push('--tag-armv', '7');
    Object.assign(env, {
      CC: `${tools}gcc`,
      CXX: `${tools}g++`,
      AR: `${tools}ar`,
      CXXFLAGS: `${PLAIN} ${target.flags ?? ''}`,
      LDFLAGS: '-static-libstdc++ -static-libgcc',
    });
  }
  const result = node('prebuildify', 'prebuildify', args, { env });
  if (result.status === 0 && platform === 'linux') checkLibc(target);
  return result;
}

/** node-gyp has no way to a Windows binary from here; its flags are those of binding.gyp. */
function buildWithMinGW(target, folder) {
  const [gyp] = JSON.parse(readFileSync(join(root, 'binding.gyp'), 'utf8')).targets;
  const { version } = require('../package.json');
  const defines = gyp.defines.filter((define) => !define.includes('VERSION='));
  const include = `${nodeWithHeaders()}/include/node`;
  const file = join(root, 'prebuilds', target.name, target.file);
  mkdirSync(join(root, 'prebuilds', target.name), { recursive: true });
  writeFileSync(join(folder, 'host.def'), hostExports(include));
  const library = run(`${target.tools}dlltool`, ['-d', 'host.def', '-y', 'libhost.a'], {
    cwd: folder,
  });
  if (library.status !== 0) return library;
  return run(
    `${target.tools}g++`,
    [
      ...gyp.cflags_cc,
      ...defines.map((define) => `-D${define}`),
      `-DRELAY_LIMITER_VERSION="${version}"`,
      '-DBUILDING_NODE_EXTENSION',
      `-I${include}`,
      `-I${dirname(require.resolve('node-addon-api/package.json'))}`,
      ...['-shared', '-static', '-s', '-Wl,--gc-sections', '-o', file],
      ...['native/binding/addon.cc', 'native/binding/host-program.cc'],
      ...['libhost.a', '-ldelayimp'],
    ],
    { cwd: folder },
  );
}

/** Node-API as the functions of a program, from its headers. */
function hostExports(include) {
  const headers = ['js_native_api.h', 'node_api.h'].map((name) =>
    readFileSync(join(include, name), 'utf8'),
  );
  const names = headers.join('').matchAll(/NAPI_CDECL\s+((?:napi|node_api)_\w+)\(/g);
  return `NAME node.exe\nEXPORTS\n${[...new Set([...names].map(([, name]) => name))].join('\n')}\n`;
}

/** What a Linux binary asks of the system: old enough, and little enough for musl as well. */
function checkLibc(target) {
  const folder = join(root, 'prebuilds', target.name);
  const { libraries, newest } = needs(join(folder, target.file));
  if (compareVersions(newest, OLDEST_GLIBC) > 0) {
    refuse(folder, `glibc ${newest}; ${OLDEST_GLIBC} is to do`);
  }
  // One library, of which musl has every function: `npm run test:runtimes` loads it there.
  if (libraries.join() !== 'libc.so.6') refuse(folder, libraries.join(', '));
}

function refuse(folder, needed) {
  rmSync(folder, { recursive: true });
  fail(`failed: what was built needs ${needed}`);
}

function needs(file) {
  const { stdout } = run('readelf', ['-dVW', file]);
  const found = (pattern) => [...stdout.matchAll(pattern)].map(([, name]) => name);
  const versions = found(/Name: GLIBC_([\d.]+)/g).sort(compareVersions);
  return { libraries: found(/\(NEEDED\).*\[(.*)\]/g), newest: versions.at(-1) ?? '' };
}

function compareVersions(a, b) {
  const [one, two] = [a, b].map((version) => version.split('.').map(Number));
  return one[0] - two[0] || (one[1] ?? 0) - (two[1] ?? 0) || (one[2] ?? 0) - (two[2] ?? 0);
}

/** A row of the table. */
function inspect({ name, file: addon, tools }) {
  const file = join(root, 'prebuilds', name, addon);
  const size = `${Math.round(statSync(file).size / 1024)} KB`;
  if (name.startsWith('linux')) {
    const { libraries, newest } = needs(file);
    return [name, size, newest, libraries.join(', ')];
  }
  if (process.platform === 'linux') {
    const { stdout } = run(`${tools}objdump`, ['-p', file]);
    const libraries = [...stdout.matchAll(/DLL Name: (.*)/g)].map(([, dll]) => dll);
    return [name, size, '', libraries.join(', ')];
  }
  return [name, size, '', ''];
}
