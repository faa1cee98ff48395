// Builds dist/ (the package), out/ (examples and benchmark) and the native addon.
//
//   node scripts/build.mjs              everything; fails if anything does
//   node scripts/build.mjs --tolerant   the same, but a machine that cannot build the addon is told
//                                       so in one line and gets the TypeScript engine
//   node scripts/build.mjs --bench      only the addons that the benchmark compares with
//
// The compiler's words are left in build/addon.log.

import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const require = createRequire(import.meta.url);
const LOG = 'build/addon.log';
const OUTPUTS = { lib: 'dist', examples: 'out/examples', bench: 'out/bench' };

function compileTypeScript(project) {
  const { status, output } = node('typescript', 'tsc', ['-p', project]);
  if (status !== 0) fail(output);
}

/** Compiles the addon in `folder`; false, its log written, where that fails. */
function compileAddon(folder) {
  // Where build/ is there already, make compiles only what has changed.
  const steps = existsSync(`${root}${folder}/build/Makefile`)
    ? ['configure', 'build']
    : ['rebuild'];
  const args = [...steps, '--release', '-C', folder, ...headers()];
  const { status, output } = node('node-gyp', 'node-gyp', args);
  mkdirSync(`${root}build`, { recursive: true });
  writeFileSync(`${root}${LOG}`, output);
  // An older binary must not pass for what could not be built.
  if (status !== 0) rmSync(`${root}${folder}/build/Release`, { recursive: true, force: true });
  return status === 0;
}

/** Runs a command of a package that is installed here. */
function node(name, command, args) {
  const manifest = require.resolve(`${name}/package.json`);
  const { bin } = require(manifest);
  const script = resolve(dirname(manifest), typeof bin === 'string' ? bin : bin[command]);
  const options = { cwd: root, encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 };
  const { status, stdout, stderr } = spawnSync(process.execPath, [script, ...args], options);
  return { status, output: stdout + stderr };
}

/** Where Node was installed with its headers, they need not be downloaded. */
function headers() {
  const prefix = dirname(dirname(process.execPath));
  return existsSync(`${prefix}/include/node/node_api.h`) ? [`--nodedir=${prefix}`] : [];
}

function fail(output) {
  process.stderr.write(output);
  process.exit(1);
}

function buildPackage(tolerant) {
  if (tolerant && !isInstalled('typescript')) {
    console.log('relay-limiter: nothing built: the development packages are not installed');
    return;
  }
  for (const project of ['lib', 'examples', 'bench']) {
    rmSync(`${root}${OUTPUTS[project]}`, { recursive: true, force: true });
    compileTypeScript(project);
  }
  if (compileAddon('.')) {
    console.log('relay-limiter: built, with the native addon');
  } else if (tolerant) {
    console.log(
      `relay-limiter: built without the native addon (${LOG} says why); the TypeScript engine runs`,
    );
  } else {
    fail(readFileSync(`${root}${LOG}`, 'utf8'));
  }
}

function buildForBenchmark() {
  if (!compileAddon('bench/floor')) {
    fail(
      `${readFileSync(`${root}${LOG}`, 'utf8')}\nrelay-limiter: the benchmark needs a C++ compiler\n`,
    );
  }
  // Its binary wants a newer libc than some systems have. Without any it is left out, which the
  // benchmark says.
  if (!loads('@hyperlimit/core')) compileAddon('node_modules/@hyperlimit/core');
}

function loads(name) {
  try {
    return Boolean(require(name));
  } catch {
    return false;
  }
}

function isInstalled(name) {
  return existsSync(`${root}node_modules/${name}/package.json`);
}

if (process.argv.includes('--bench')) {
  buildForBenchmark();
} else {
  buildPackage(process.argv.includes('--tolerant'));
}
