// The binaries that the package carries, and what builds them: on Linux, Debian's compilers, whose
// programs are named with `tools` in front; elsewhere the system's own.

const GLIBC = 'relay-limiter.glibc.node';
const MUSL = 'relay-limiter.musl.node';

export const TARGETS = [
  {
    name: 'linux-x64',
    files: [GLIBC, MUSL],
    tools: 'x86_64-linux-gnu-',
    debian: 'g++-x86-64-linux-gnu',
  },
  {
    name: 'linux-arm64',
    files: [GLIBC, MUSL],
    tools: 'aarch64-linux-gnu-',
    debian: 'g++-aarch64-linux-gnu',
    flags: '-mno-outline-atomics',
  },
  {
    name: 'linux-arm',
    files: ['relay-limiter.armv7.glibc.node'],
    tools: 'arm-linux-gnueabihf-',
    debian: 'g++-arm-linux-gnueabihf',
    flags: '-Wno-psabi',
  },
  {
    name: 'win32-x64',
    files: ['relay-limiter.node'],
    tools: 'x86_64-w64-mingw32-',
    debian: 'g++-mingw-w64-x86-64-posix',
  },
  { name: 'darwin-x64', files: ['relay-limiter.node'] },
  { name: 'darwin-arm64', files: ['relay-limiter.node'] },
];

/** Those that a machine of `platform` builds: Linux its own and Windows's, others their own. */
export function targetsOn(platform) {
  return TARGETS.filter(({ name, tools }) =>
    platform === 'linux' ? tools !== undefined : name.startsWith(`${platform}-`),
  );
}
