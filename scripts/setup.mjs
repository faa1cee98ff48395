// Prepares a fresh or changed clone; `npm start` and `npm test` run it first. Installs the packages of the lock file that
// node_modules lacks, and builds what has changed since the last build. If nothing is missing, it writes nothing and
// needs no network. One line names what is missing. With --tests it fails if the addon is missing, unless
// RELAY_LIMITER_ENGINE=js selects the tests that do not need the addon.

import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import {
  areSourcesBuilt,
  forgetSources,
  isAddonBuilt,
  isAddonSettled,
  missingTools,
} from './built.mjs';
import { lockBuild } from './lock.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));

requireNode();
if (!isReady()) {
  requireWritable();
  await lockBuild();
  prepare();
}
if (process.argv.includes('--tests') && !isAddonBuilt()) requireNoAddon();

/** In a read-only folder the addon cannot be built, and a missing one is no error: the TypeScript engine runs. */
function isReady() {
  return isInstalled() && areSourcesBuilt() && (isAddonSettled() || !isWritable());
}

/** Does nothing if another process has done it all meanwhile. */
function prepare() {
  if (!isInstalled()) {
    console.log('relay-limiter: installing the development packages (once) ...');
    install();
    // The installation may have changed the TypeScript compiler.
    forgetSources();
  }
  if (isReady()) return;
  const { status } = spawnSync(process.execPath, ['scripts/build.mjs', '--tolerant'], {
    cwd: root,
    stdio: 'inherit',
  });
  if (status !== 0) process.exit(status ?? 1);
}

function requireNode() {
  const { node } = readJson('package.json').engines;
  if (!fits(process.versions.node, node)) {
    stop(`Node must be ${node}, got ${process.versions.node}`);
  }
}

/** Supports only the version ranges that `engines` uses: ^1.2.3 and >=1.2.3, separated by ||. */
function fits(version, ranges) {
  const numbers = (text) => text.split('.').map(Number);
  const [major, minor, patch] = numbers(version);
  return ranges.split('||').some((range) => {
    const [, sign, least] = range.trim().match(/^(\^|>=)(\d+\.\d+\.\d+)$/);
    const [leastMajor, leastMinor, leastPatch] = numbers(least);
    if (major !== leastMajor) return sign === '>=' && major > leastMajor;
    return minor > leastMinor || (minor === leastMinor && patch >= leastPatch);
  });
}

/** Returns true if npm has installed the packages of the lock file. Optional ones may be for other platforms. */
function isInstalled() {
  if (!existsSync(`${root}node_modules/.package-lock.json`)) return false;
  const installed = readJson('node_modules/.package-lock.json').packages;
  return Object.entries(readJson('package-lock.json').packages).every(
    ([path, { version, optional, devOptional }]) => {
      if (path === '') return true;
      const found = installed[path];
      return found === undefined ? optional || devOptional : found.version === version;
    },
  );
}

/** Installs the packages of the lock file, from npm's cache if possible. */
function install() {
  const options = ['--include=dev', '--prefer-offline', '--no-audit', '--no-fund'];
  const { status, error } = spawnSync('npm', ['ci', ...options, '--loglevel=error'], {
    cwd: root,
    stdio: 'inherit',
    shell: process.platform === 'win32',
  });
  if (error !== undefined)
    stop(`npm, which installs the development packages, cannot be run: ${error.message}`);
  if (status !== 0) stop('npm could not install the development packages; see the lines above');
}

function isWritable() {
  try {
    accessSync(root, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

function requireWritable() {
  if (isWritable()) return;
  stop(`${root} must be writable: what is installed or built there does not match the sources`);
}

function requireNoAddon() {
  if (process.env.RELAY_LIMITER_ENGINE === 'js') {
    console.log('relay-limiter: the tests of the native engine are skipped');
    return;
  }
  const missing = missingTools();
  const reason =
    missing.length > 0
      ? `cannot be built without ${missing.join(', ')}`
      : 'could not be built: build/addon.log holds the output of the compiler';
  stop(
    `the native addon, which the tests need, ${reason}. RELAY_LIMITER_ENGINE=js runs the tests that do not need it`,
  );
}

function readJson(path) {
  return JSON.parse(readFileSync(`${root}${path}`, 'utf8'));
}

function stop(message) {
  console.error(`relay-limiter: ${message}`);
  process.exit(1);
}
