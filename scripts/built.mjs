// What was built last, and from what. Contents are compared: times of files change with a checkout or a copy, and tell
// nothing.

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const ADDON = 'build/Release/relay_limiter.node';

const SOURCES = {
  record: 'out/.built',
  paths: ['lib', 'examples', 'bench', 'soak', 'test/support', 'scripts/build.mjs', 'tsconfig.json'],
  files: /\.(ts|html|css|svg|mjs)$|tsconfig\.json$/,
};
const NATIVE = {
  record: 'build/.built',
  paths: ['native', 'binding.gyp'],
  files: /\.(h|cc|map|gyp)$/,
};

/** What node-gyp compiles with, and the command that must run. */
const TOOLS = [
  ['Python', process.env.PYTHON || 'python3'],
  ['make', 'make'],
  ['a C++ compiler', process.env.CXX || 'c++'],
];

/** Whether dist/ and out/ are those of the sources. */
export function areSourcesBuilt() {
  return existsSync(`${root}dist/index.js`) && readText(SOURCES.record) === digestOf(SOURCES);
}

export function recordSources() {
  record(SOURCES.record, digestOf(SOURCES));
}

/** Forgets them: what is built next may be ended before it is whole. */
export function forgetSources() {
  rmSync(`${root}${SOURCES.record}`, { force: true });
}

export function isAddonBuilt() {
  return existsSync(`${root}${ADDON}`);
}

/**
 * Whether there is nothing to compile: the addon is that of the sources, or could not be compiled from them, with the
 * compilers that there are.
 */
export function isAddonSettled() {
  return readText(NATIVE.record) === addonState();
}

export function recordAddon() {
  record(NATIVE.record, addonState());
}

/** The names of tools that node-gyp does not find here. */
export function missingTools() {
  return tools()
    .filter(({ version }) => version === undefined)
    .map(({ name }) => name);
}

function addonState() {
  const { version } = JSON.parse(readFileSync(`${root}package.json`, 'utf8'));
  const inputs = `${version} ${process.arch} ${digestOf(NATIVE)}`;
  return isAddonBuilt() ? `built ${inputs}` : `failed ${inputs} ${JSON.stringify(tools())}`;
}

/** What each tool says of its version; undefined where it does not run. */
function tools() {
  // Those of Windows are found in its registry. Whoever has installed them runs `npm run build`.
  if (process.platform === 'win32') return [];
  return TOOLS.map(([name, command]) => {
    const { status, stdout } = spawnSync(command, ['--version'], { encoding: 'utf8' });
    return { name, version: status === 0 ? stdout.split('\n')[0] : undefined };
  });
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

/** Folders of built files lie beside some sources. */
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

function record(path, text) {
  mkdirSync(`${root}${path.split('/')[0]}`, { recursive: true });
  writeFileSync(`${root}${path}`, text);
}
