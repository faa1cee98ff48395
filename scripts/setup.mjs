// Makes a fresh clone ready, and a changed one current: what `npm start` and `npm test` run first. Installs what the
// lock file names and node_modules does not have, builds what has changed since the last build; otherwise writes
// nothing, and needs no network. What is missing is said in one line. With --tests it fails where the addon is
// missing, unless RELAY_LIMITER_ENGINE=js asks for the tests that need none.

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

const root = fileURLToPath(new URL('..', import.meta.url));

requireNode();
if (!isInstalled()) {
  requireWritable();
  console.log('relay-limiter: installing what it is built with (once) ...');
  install();
  // The compiler may be another one now.
  forgetSources();
}
// An addon that cannot be written anyway is none to insist on: the TypeScript engine runs.
if (!areSourcesBuilt() || (isWritable() && !isAddonSettled())) {
  requireWritable();
  const { status } = spawnSync(process.execPath, ['scripts/build.mjs', '--tolerant'], {
    cwd: root,
    stdio: 'inherit',
  });
  if (status !== 0) process.exit(status ?? 1);
}
if (process.argv.includes('--tests') && !isAddonBuilt()) requireNoAddon();

function requireNode() {
  const { node } = readJson('package.json').engines;
  if (!fits(process.versions.node, node)) {
    stop(`Node must be ${node}, got ${process.versions.node}`);
  }
}

/** Of the ranges of npm those that `engines` is made of: ^1.2.3 and >=1.2.3, with || between them. */
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

/** Whether npm has installed what the lock file names; optional packages may be of other platforms. */
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

/** From npm's cache where it can. */
function install() {
  const options = ['--include=dev', '--prefer-offline', '--no-audit', '--no-fund'];
  const { status, error } = spawnSync('npm', ['ci', ...options, '--loglevel=error'], {
    cwd: root,
    stdio: 'inherit',
    shell: process.platform === 'win32',
  });
  if (error !== undefined)
    stop(`npm, which installs what it is built with, cannot be run: ${error.message}`);
  if (status !== 0) stop('npm could not install what it is built with; the lines above say why');
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
  stop(
    `${root} cannot be written to, and what is installed and built there is not of these sources`,
  );
}

function requireNoAddon() {
  if (process.env.RELAY_LIMITER_ENGINE === 'js') {
    console.log('relay-limiter: the tests of the native engine are skipped');
    return;
  }
  const missing = missingTools();
  const why =
    missing.length > 0
      ? `cannot be built without ${missing.join(', ')}`
      : 'could not be built: build/addon.log holds the output of the compiler';
  stop(
    `the native addon, which the tests need, ${why}. RELAY_LIMITER_ENGINE=js runs the tests that need none`,
  );
}

function readJson(path) {
  return JSON.parse(readFileSync(`${root}${path}`, 'utf8'));
}

function stop(message) {
  console.error(`relay-limiter: ${message}`);
  process.exit(1);
}
