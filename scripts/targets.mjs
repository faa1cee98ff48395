// The binaries that the package carries, and what builds them: on Linux, Debian's compilers, whose
// programs are named with `tools` in front; elsewhere the system's own.
//
// A name says nothing of the C library, so that node-gyp-build takes the file under glibc and under musl alike.

const ADDON = 'relay-limiter.node';

export const TARGETS = [
  {
    name: 'linux-x64',
    file: ADDON,
    tools: 'x86_64-linux-gnu-',
    debian: 'g++-x86-64-linux-gnu',
  },
  {
    name: 'linux-arm64',
    file: ADDON,
    tools: 'aarch64-linux-gnu-',
    debian: 'g++-aarch64-linux-gnu',
    flags: '-mno-outline-atomics',
  },
  {
    name: 'linux-arm',
    file: 'relay-limiter.armv7.node',
    tools: 'arm-linux-gnueabihf-',
    debian: 'g++-arm-linux-gnueabihf',
    flags: '-Wno-psabi',
  },
  {
    name: 'win32-x64',
    file: ADDON,
    tools: 'x86_64-w64-mingw32-',
    debian: 'g++-mingw-w64-x86-64-posix',
  },
  { name: 'darwin-x64', file: ADDON },
  { name: 'darwin-arm64', file: ADDON },
];

/** Those that a machine of `platform` builds: Linux its own and Windows's, others their own. */
export function targetsOn(platform) {
  return TARGETS.filter(({ name, tools }) =>
    platform === 'linux' ? tools !== undefined : name.startsWith(`${platform}-`),
  );
}
