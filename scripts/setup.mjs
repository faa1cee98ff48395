// Makes a fresh clone ready, and a changed one current: what `npm start` and `npm test` run first.
// Installs when the lock file is newer than node_modules, builds when a source is newer than the
// last build; otherwise does nothing, fast. With --tests it fails where the addon is missing, unless
// RELAY_LIMITER_ENGINE=js asks for the tests that need none.

import { spawnSync } from 'node:child_process';
import { readdirSync, statSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const STAMP = 'out/.built';
const ADDON = 'build/Release/relay_limiter.node';
const SOURCES = [
  'lib',
  'native',
  'examples',
  'bench',
  'soak',
  'test/support',
  'scripts/build.mjs',
  'scripts/tools.mjs',
  'binding.gyp',
];

const INSTALLED = 'node_modules/.package-lock.json';
const outdated = changedAt('package-lock.json') > changedAt(INSTALLED);
if (outdated) {
  console.log('relay-limiter: installing what it is built with (once) ...');
  npm('ci', '--include=dev', '--no-audit', '--no-fund', '--loglevel=error');
}
const missing = ['dist/index.js', ADDON].some((path) => !changedAt(path));
if (outdated || missing || newest(SOURCES) > changedAt(STAMP)) {
  npm('run', '--silent', 'prepare');
  writeFileSync(`${root}${STAMP}`, '');
}
if (process.argv.includes('--tests') && !changedAt(ADDON)) {
  if (process.env.RELAY_LIMITER_ENGINE === 'js') {
    console.log('relay-limiter: the tests of the native engine are skipped');
  } else {
    console.error(
      'relay-limiter: the native addon, which the tests need, could not be built: build/addon.log holds the ' +
        "compiler's output. RELAY_LIMITER_ENGINE=js runs the tests that need none.",
    );
    process.exit(1);
  }
}

function npm(...args) {
  const { status } = spawnSync('npm', args, {
    cwd: root,
    stdio: 'inherit',
    shell: process.platform === 'win32',
  });
  if (status !== 0) process.exit(status ?? 1);
}

function changedAt(path) {
  return statSync(`${root}${path}`, { throwIfNoEntry: false })?.mtimeMs ?? 0;
}

function newest(paths) {
  return Math.max(
    ...paths.map((path) => {
      const stat = statSync(`${root}${path}`);
      if (!stat.isDirectory()) return isSource(path) ? stat.mtimeMs : 0;
      return newest(readdirSync(`${root}${path}`).map((name) => `${path}/${name}`));
    }),
    0,
  );
}

/** What is built of it lies beside some of it, and so do documents. */
function isSource(path) {
  return (
    /\.(ts|html|css|svg|h|cc|gyp|map|mjs)$|tsconfig\.json$/.test(path) && !path.includes('/build/')
  );
}
