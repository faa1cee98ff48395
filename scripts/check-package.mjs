// Checks the tarball that npm would publish: that it holds what it must and nothing else, that its
// types and entries are right, and that the addon can be built from it.
//
//   npm run check:package
//   npm run check:package -- --complete    before a release: no binary may be missing

import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { TARGETS } from './targets.mjs';
import { node, nodeWithHeaders, npm, require, root, run, table } from './tools.mjs';

// With five binaries, that for musl a copy of glibc's.
const MOST_BYTES = 1_300_000;
const ALLOWED = [
  /^dist\/[\w/-]+\.(js|d\.ts)$/,
  /^dist\/dashboard\/uplot\.LICENSE$/,
  /^native\/[\w/-]+\.(h|cc|map)$/,
  /^docs\/([\w-]+\.md|grafana\.json)$/,
  /^(binding\.gyp|package\.json|LICENSE|README\.md|ARCHITECTURE\.md|CHANGELOG\.md)$/,
];
const BINARIES = TARGETS.flatMap(({ name, files }) =>
  files.map((file) => `prebuilds/${name}/${file}`),
);

const temporary = mkdtempSync(join(tmpdir(), 'relay-limiter-package-'));
process.on('exit', () => rmSync(temporary, { recursive: true, force: true }));

const packed = npm(['pack', '--json', '--ignore-scripts', '--pack-destination', temporary]);
const [{ filename, files, size }] = JSON.parse(packed.stdout);
const tarball = join(temporary, filename);
const paths = files.map(({ path }) => path);
const manifest = require('../package.json');

const rows = [['check', 'result']];
check('holds nothing else', surplus);
check('holds every entry', missingEntries);
check(`holds every binary${complete() ? '' : ' of those built'}`, missingBinaries);
check('holds binaries of this version alone', foreignBinaries);
check('is small', () => (size > MOST_BYTES ? [`${size} bytes, ${MOST_BYTES} are to do`] : []));
check('runs no script when installed', installScripts);
check('publint', () => words(node('publint', 'publint', [tarball, '--strict'])));
// As Node resolves that we support. A require() of an ES module, which this tool knows as an error, works
// in every one of them.
const PROFILE = ['--profile', 'node16', '--ignore-rules', 'cjs-resolves-to-esm'];
check('arethetypeswrong', () =>
  words(node('@arethetypeswrong/cli', 'attw', [tarball, ...PROFILE])),
);
check('builds from its sources', buildErrors);
console.log(`\n${filename}: ${paths.length} files, ${Math.round(size / 1000)} KB packed`);
console.log(`\n${table(rows)}`);

function complete() {
  return process.argv.includes('--complete');
}

/** One line of progress, one row of the table; what is wrong in words, nothing if all is well. */
function check(name, findProblems) {
  process.stdout.write(`package: ${name} ... `);
  const problems = findProblems();
  console.log(problems.length === 0 ? 'yes' : `NO\n${problems.join('\n')}`);
  rows.push([name, problems.length === 0 ? 'yes' : 'NO']);
  if (problems.length > 0) process.exitCode = 1;
}

function surplus() {
  return paths.filter(
    (path) => !ALLOWED.some((allowed) => allowed.test(path)) && !BINARIES.includes(path),
  );
}

/** Whatever package.json names as a file, and the licence of uPlot, which is built into the dashboard's page. */
function missingEntries() {
  const { exports, imports, bin, main, types } = manifest;
  const named = [exports, imports, bin, main, types, 'dist/dashboard/uplot.LICENSE'];
  const entries = [...new Set(named.flatMap(leaves))].map((entry) => entry.replace('./', ''));
  return entries.filter((entry) => !paths.includes(entry));
}

function leaves(value) {
  return typeof value === 'string' ? [value] : Object.values(value).flatMap(leaves);
}

function missingBinaries() {
  return BINARIES.filter(
    (path) => !paths.includes(path) && (complete() || existsSync(join(root, path))),
  );
}

/** The addon keeps its version as text, which ends with a zero. */
function foreignBinaries() {
  return BINARIES.filter(
    (path) =>
      paths.includes(path) && !readFileSync(join(root, path)).includes(`${manifest.version}\0`),
  );
}

function installScripts() {
  const names = ['preinstall', 'install', 'postinstall'];
  return names.filter((name) => manifest.scripts[name] !== undefined);
}

function words({ status, output }) {
  return status === 0 ? [] : [output];
}

/** What the README says of platforms without a binary: one command in the installed package. */
function buildErrors() {
  writeFileSync(join(temporary, 'package.json'), '{ "private": true, "type": "module" }\n');
  const quiet = ['--no-audit', '--no-fund', '--loglevel=error'];
  const options = { cwd: temporary };
  const installed = npm(['install', `./${filename}`, '--ignore-scripts', ...quiet], options);
  if (installed.status !== 0) return [installed.output];
  const folder = join(temporary, 'node_modules/relay-limiter');
  rmSync(join(folder, 'prebuilds'), { recursive: true, force: true });
  const headers = nodeWithHeaders();
  const env = { ...process.env, ...(headers && { npm_config_nodedir: headers }) };
  const built = node('node-gyp', 'node-gyp', ['rebuild'], { cwd: folder, env });
  if (built.status !== 0) return [built.output];
  const script = "console.log((await import('relay-limiter')).engineInfo().path)";
  const loaded = run(process.execPath, ['--input-type=module', '--eval', script], options);
  return loaded.stdout.includes(join('build', 'Release')) ? [] : [loaded.output];
}
