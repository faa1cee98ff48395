// Builds dist/ (the package), out/ (examples and benchmark) and the native addon.
//
//   node scripts/build.mjs              everything; fails if anything does
//   node scripts/build.mjs --tolerant   the same, but a machine that cannot build the addon is told
//                                       so in one line and gets the TypeScript engine
//
// Both leave the addon's compiler output in build/addon.log.

import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const require = createRequire(import.meta.url);
const tolerant = process.argv.includes('--tolerant');

function node(script, args) {
  return spawnSync(process.execPath, [script, ...args], { cwd: root, encoding: 'utf8' });
}

function compileTypeScript(project) {
  const result = node(bin('typescript', 'tsc'), ['-p', project]);
  if (result.status === 0) return;
  process.stderr.write(result.stdout + result.stderr);
  process.exit(1);
}

function compileAddon() {
  // Where build/ is there already, make compiles only what has changed.
  const step = existsSync(`${root}build/Makefile`) ? ['configure', 'build'] : ['rebuild'];
  const result = node(bin('node-gyp', 'node-gyp'), [...step, '--release', ...headers()]);
  mkdirSync(`${root}build`, { recursive: true });
  const log = `${result.stdout}${result.stderr}`;
  writeFileSync(`${root}build/addon.log`, log);
  if (result.status === 0) {
    console.log('relay-limiter: built dist/ and the native addon');
    return;
  }
  if (!tolerant) {
    process.stderr.write(log);
    process.exit(1);
  }
  console.log(
    'relay-limiter: built dist/; no native addon, the TypeScript engine runs instead (why: build/addon.log)',
  );
}

// Where Node was installed with its headers, they need not be downloaded.
function headers() {
  const prefix = dirname(dirname(process.execPath));
  return existsSync(`${prefix}/include/node/node_api.h`) ? [`--nodedir=${prefix}`] : [];
}

function bin(name, command) {
  const manifest = require.resolve(`${name}/package.json`);
  const { bin } = require(manifest);
  const script = typeof bin === 'string' ? bin : bin[command];
  return resolve(dirname(manifest), script);
}

compileTypeScript('lib');
compileTypeScript('examples');
compileTypeScript('bench');
compileAddon();
