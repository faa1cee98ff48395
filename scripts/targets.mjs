// The binaries that the package contains, and their compilers: on Linux, Debian's cross-compilers, with `tools` as the
// prefix of their programs; elsewhere the system's own compiler.
//
// The file names do not mention the C library, so that node-gyp-build loads the same file on glibc and on musl.

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

/** Returns the targets that a machine of `platform` can build: Linux builds those of Linux and Windows, others their own. */
export function targetsOn(platform) {
  return TARGETS.filter(({ name, tools }) =>
    platform === 'linux' ? tools !== undefined : name.startsWith(`${platform}-`),
  );
}
