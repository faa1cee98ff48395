// Records what the last build produced and from which sources. It compares contents, not modification times: a
// checkout or a copy changes the times only.

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const ADDON = 'build/Release/relay_limiter.node';

const SOURCES = {
  record: 'out/.built',
  paths: [
    'lib',
    'examples',
    'playground',
    'bench',
    'soak',
    'test/support',
    'scripts/build.mjs',
    'tsconfig.json',
  ],
  files: /\.(ts|html|css|svg|mjs)$|tsconfig\.json$/,
};
const NATIVE = {
  record: 'build/.built',
  paths: ['native', 'binding.gyp'],
  files: /\.(h|cc|map|gyp)$/,
};

/** The tools that node-gyp needs, each with the command that must run. */
const TOOLS = [
  ['Python', process.env.PYTHON || 'python3'],
  ['make', 'make'],
  ['a C++ compiler', process.env.CXX || 'c++'],
];

/** Returns true if dist/ and out/ were built from the present sources. */
export function areSourcesBuilt() {
  return existsSync(`${root}dist/index.js`) && readText(SOURCES.record) === digestOf(SOURCES);
}

/** Deletes the record of the last build of dist/ and out/. */
export function forgetSources() {
  forget(SOURCES.record);
}

/**
 * To be called before dist/ and out/ are built. Returns a function that records the build when it is complete. It
 * records the sources as they are now, since a file that is edited during the build may not be part of it.
 */
export function beginSources() {
  return begin(SOURCES.record, digestOf(SOURCES));
}

export function isAddonBuilt() {
  return existsSync(`${root}${ADDON}`);
}

/**
 * Returns true if there is nothing to compile: the addon was built from the present sources, or it is missing as a tool
 * is that compiles it. A failure of the compiler is not remembered, since the next attempt may succeed.
 */
export function isAddonSettled() {
  if (isAddonBuilt()) return readText(NATIVE.record) === digestOfAddon();
  return missingTools().length > 0;
}

/** The same for the addon as `beginSources`. */
export function beginAddon() {
  return begin(NATIVE.record, digestOfAddon());
}

/** Returns the names of the tools that node-gyp needs and that do not run here. */
export function missingTools() {
  // On Windows node-gyp finds its tools in the registry, which this script does not read.
  if (process.platform === 'win32') return [];
  return TOOLS.filter(([, command]) => spawnSync(command, ['--version']).status !== 0).map(
    ([name]) => name,
  );
}

function digestOfAddon() {
  const { version } = JSON.parse(readFileSync(`${root}package.json`, 'utf8'));
  return `${version} ${process.arch} ${digestOf(NATIVE)}`;
}

function digestOf({ paths, files }) {
  const hash = createHash('sha256');
  for (const path of paths.flatMap((path) => filesAt(path, files))) {
    hash
      .update(`${path}\0`)
      .update(readFileSync(`${root}${path}`))
      .update('\0');
  }
  return hash.digest('hex');
}

/** Lists the source files at `path`. Skips folders named `build`, which hold build output next to some sources. */
function filesAt(path, files) {
  if (!existsSync(`${root}${path}`)) return [];
  if (files.test(path)) return [path];
  return readdirSync(`${root}${path}`, { withFileTypes: true })
    .filter((entry) => (entry.isDirectory() ? entry.name !== 'build' : files.test(entry.name)))
    .map(({ name }) => `${path}/${name}`)
    .sort()
    .flatMap((child) => filesAt(child, files));
}

function readText(path) {
  return existsSync(`${root}${path}`) ? readFileSync(`${root}${path}`, 'utf8') : undefined;
}

/** Deletes the record at once: an interrupted build must not pass as complete. */
function begin(path, digest) {
  forget(path);
  return () => {
    mkdirSync(`${root}${path.split('/')[0]}`, { recursive: true });
    writeFileSync(`${root}${path}`, digest);
  };
}

function forget(path) {
  rmSync(`${root}${path}`, { force: true });
}
