// Builds dist/ (the package), out/ (examples, benchmark and soak) and the native addon.
//
//   node scripts/build.mjs              everything; fails if anything does
//   node scripts/build.mjs --tolerant   the same, but a machine that cannot build the addon is told
//                                       so in one line and gets the TypeScript engine
//   node scripts/build.mjs --bench      only the addons that the benchmark compares with
//
// The compiler's words are left in build/addon.log.

import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { fail, node, nodeWithHeaders, require, root } from './tools.mjs';

const LOG = 'build/addon.log';
const PAGE = 'dashboard/page';
const OUTPUTS = { lib: 'dist', examples: 'out/examples', bench: 'out/bench', soak: 'out/soak' };

function compileTypeScript(project) {
  const { status, output } = node('typescript', 'tsc', ['-p', project]);
  if (status !== 0) fail(output);
}

/** The dashboard's page: its scripts are compiled for browsers, the rest is as it is. */
function buildPage() {
  compileTypeScript(`lib/${PAGE}`);
  for (const name of readdirSync(`${root}lib/${PAGE}`)) {
    if (!/\.(html|css|svg)$/.test(name)) continue;
    copyFileSync(`${root}lib/${PAGE}/${name}`, `${root}dist/${PAGE}/${name}`);
  }
}

/** Compiles the addon in `folder`; false, its log written, where that fails. */
function compileAddon(folder) {
  // Where build/ is there already, make compiles only what has changed.
  const steps = existsSync(`${root}${folder}/build/Makefile`)
    ? ['configure', 'build']
    : ['rebuild'];
  const headers = nodeWithHeaders();
  const nodedir = headers === undefined ? [] : [`--nodedir=${headers}`];
  const args = [...steps, '--release', '-C', folder, ...nodedir];
  const { status, output } = node('node-gyp', 'node-gyp', args);
  mkdirSync(`${root}build`, { recursive: true });
  writeFileSync(`${root}${LOG}`, output);
  // An older binary must not pass for what could not be built.
  if (status !== 0) rmSync(`${root}${folder}/build/Release`, { recursive: true, force: true });
  return status === 0;
}

function buildPackage(tolerant) {
  if (tolerant && !isInstalled('typescript')) {
    console.log('relay-limiter: nothing built: the development packages are not installed');
    return;
  }
  for (const project of ['lib', 'examples', 'bench', 'soak']) {
    rmSync(`${root}${OUTPUTS[project]}`, { recursive: true, force: true });
    compileTypeScript(project);
    if (project === 'lib') buildPage();
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
