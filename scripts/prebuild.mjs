// Builds the package's binaries into prebuilds/, as far as this machine can:
//
//   npm run prebuildify                                    all of them; fails if one cannot be built
//   npm run prebuildify -- --only linux-x64,linux-arm64    only these
//
// Each binary is built in a copy of the sources under out/prebuild/, so that the addon used by the tests stays
// unchanged. build.log in that copy keeps the compiler's output.

import { cpSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { lockBuild } from './lock.mjs';
import { targetsOn } from './targets.mjs';
import { fail, node, nodeWithHeaders, require, root, run, table } from './tools.mjs';

// The newest glibc that a Linux binary may require. Node 20 itself requires a newer one.
const MAX_GLIBC = '2.17';
// Turns off features that some compilers, such as Ubuntu's, enable by default. They need glibc functions that musl does
// not have, and the loader as a second library.
const PORTABLE_FLAGS = '-U_FORTIFY_SOURCE -fno-stack-protector';

const wanted = chosenTargets();
const rows = [['target', 'size', 'glibc', 'libraries']];
let skipped = 0;
await lockBuild();
for (const [index, target] of wanted.entries()) {
  process.stdout.write(`prebuilds: ${target.name} (${index + 1} of ${wanted.length}) ... `);
  const started = performance.now();
  // Otherwise an older binary would remain if this build fails.
  rmSync(join(root, 'prebuilds', target.name), { recursive: true, force: true });
  const missing = missingTool(target);
  if (missing !== undefined) {
    skipped += 1;
    console.log('cannot be built here');
    rows.push([target.name, `not built: needs ${missing}`, '', '']);
    continue;
  }
  const folder = copySources(target);
  const { status, output } = isForMinGW(target)
    ? buildWithMinGW(target, folder)
    : buildWithPrebuildify(target, folder);
  writeFileSync(join(folder, 'build.log'), output);
  if (status !== 0) fail(`failed\n\n${output}`);
  console.log(`${((performance.now() - started) / 1000).toFixed(1)} s`);
  rows.push(describe(target));
}
console.log(`\n${table(rows)}`);
process.exitCode = skipped > 0 ? 1 : 0;

function chosenTargets() {
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

/** Returns the prefix of the compiler's programs: '' for this machine's own compiler. */
function toolPrefix({ name, tools }) {
  const own = name === `${process.platform}-${process.arch}`;
  return own || process.platform !== 'linux' ? '' : tools;
}

function isForMinGW({ name }) {
  return name === 'win32-x64' && process.platform === 'linux';
}

/** Returns the name of what must be installed first; undefined if the target can be built. */
function missingTool(target) {
  if (process.platform !== 'linux') return undefined;
  const tools = toolPrefix(target);
  if (run(`${tools}g++`, ['--version']).status !== 0) {
    return `the Debian package ${tools === '' ? 'g++' : target.debian}`;
  }
  return isForMinGW(target) && nodeWithHeaders() === undefined
    ? 'a Node that was installed with its headers'
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
    const tools = toolPrefix(target);
    args.push('--strip-bin', `${tools}strip`);
    if (arch === 'arm') args.push('--tag-armv', '7');
    Object.assign(env, {
      CC: `${tools}gcc`,
      CXX: `${tools}g++`,
      AR: `${tools}ar`,
      CXXFLAGS: `${PORTABLE_FLAGS} ${target.flags ?? ''}`,
      LDFLAGS: '-static-libstdc++ -static-libgcc',
    });
  }
  const result = node('prebuildify', 'prebuildify', args, { env });
  if (result.status === 0 && platform === 'linux') checkLibc(target);
  return result;
}

/** Builds the Windows binary with MinGW and the flags of binding.gyp: node-gyp cannot cross-compile for Windows. */
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

/** Returns a module definition file that lists the Node-API functions as exports of node.exe, taken from the headers. */
function hostExports(include) {
  const headers = ['js_native_api.h', 'node_api.h'].map((name) =>
    readFileSync(join(include, name), 'utf8'),
  );
  const names = headers.join('').matchAll(/NAPI_CDECL\s+((?:napi|node_api)_\w+)\(/g);
  return `NAME node.exe\nEXPORTS\n${[...new Set([...names].map(([, name]) => name))].join('\n')}\n`;
}

/** Fails if a Linux binary requires a newer glibc than MAX_GLIBC, or a library that musl does not provide. */
function checkLibc(target) {
  const folder = join(root, 'prebuilds', target.name);
  const { libraries, newest } = requirementsOf(join(folder, target.file));
  if (compareVersions(newest, MAX_GLIBC) > 0) {
    reject(folder, `glibc ${newest}; the newest allowed is ${MAX_GLIBC}`);
  }
  // libc is the only library, and musl has every function used of it: `npm run test:runtimes` loads the binary on musl.
  if (libraries.join() !== 'libc.so.6') reject(folder, libraries.join(', '));
}

function reject(folder, requirement) {
  rmSync(folder, { recursive: true });
  fail(`failed: the binary requires ${requirement}`);
}

function requirementsOf(file) {
  const { stdout } = run('readelf', ['-dVW', file]);
  const found = (pattern) => [...stdout.matchAll(pattern)].map(([, name]) => name);
  const versions = found(/Name: GLIBC_([\d.]+)/g).sort(compareVersions);
  return { libraries: found(/\(NEEDED\).*\[(.*)\]/g), newest: versions.at(-1) ?? '' };
}

function compareVersions(a, b) {
  const [one, two] = [a, b].map((version) => version.split('.').map(Number));
  return one[0] - two[0] || (one[1] ?? 0) - (two[1] ?? 0) || (one[2] ?? 0) - (two[2] ?? 0);
}

/** Returns the target's row of the table. */
function describe({ name, file: addon, tools }) {
  const file = join(root, 'prebuilds', name, addon);
  const size = `${Math.round(statSync(file).size / 1024)} KB`;
  if (name.startsWith('linux')) {
    const { libraries, newest } = requirementsOf(file);
    return [name, size, newest, libraries.join(', ')];
  }
  if (process.platform === 'linux') {
    const { stdout } = run(`${tools}objdump`, ['-p', file]);
    const libraries = [...stdout.matchAll(/DLL Name: (.*)/g)].map(([, dll]) => dll);
    return [name, size, '', libraries.join(', ')];
  }
  return [name, size, '', ''];
}
