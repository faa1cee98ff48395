// Checks the tarball that npm would publish: that it holds what it must and nothing else, that its
// types and entries are right, and that the addon can be built from it.
//
//   npm run check:package
//   npm run check:package -- --complete     before a release: no binary may be missing
//   npm run check:package -- --to FOLDER    puts the tarball there if all is well

import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pack } from './pack.mjs';
import { TARGETS } from './targets.mjs';
import { node, nodeWithHeaders, npm, require, root, run, table } from './tools.mjs';

// Compressed. What is there takes some 450 KB without binaries, and a binary 128 to 208 KB, 151 KB on average.
const MOST_BYTES = 500_000;
const MOST_BYTES_PER_BINARY = 160_000;
const ALLOWED = [
  /^dist\/[\w/-]+\.(js|d\.ts)$/,
  /^dist\/dashboard\/uplot\.LICENSE$/,
  /^native\/[\w/-]+\.(h|cc|map|gyp)$/,
  /^docs\/([\w-]+\.md|grafana\.json)$/,
  /^(package\.json|LICENSE|THIRD-PARTY-NOTICES\.md|README\.md|ARCHITECTURE\.md|CHANGELOG\.md)$/,
];
const BINARIES = TARGETS.map(({ name, file }) => `prebuilds/${name}/${file}`);

const temporary = mkdtempSync(join(tmpdir(), 'relay-limiter-package-'));
process.on('exit', () => rmSync(temporary, { recursive: true, force: true }));

const { filename, files, size } = pack(temporary);
const tarball = join(temporary, filename);
const paths = files.map(({ path }) => path);
const manifest = require('../package.json');

const rows = [['check', 'result']];
check('holds nothing else', surplus);
check('holds every entry', missingEntries);
check(`holds every binary${complete() ? '' : ' of those built'}`, missingBinaries);
check('holds binaries of this version alone', foreignBinaries);
check('is small', excess);
check('runs no script when installed', installers);
check('publint', () => words(node('publint', 'publint', [tarball, '--strict'])));
// As Node resolves that we support. A require() of an ES module, which this tool knows as an error, works
// in every one of them.
const PROFILE = ['--profile', 'node16', '--ignore-rules', 'cjs-resolves-to-esm'];
check('arethetypeswrong', () =>
  words(node('@arethetypeswrong/cli', 'attw', [tarball, ...PROFILE])),
);
check('builds from its sources', buildErrors);
const at = process.argv.indexOf('--to');
if (at !== -1 && !process.exitCode) cpSync(tarball, join(process.argv[at + 1], filename));
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

/** Whatever package.json names as a file, and licences. */
function missingEntries() {
  const named = [
    'LICENSE',
    'THIRD-PARTY-NOTICES.md',
    'dist/dashboard/uplot.LICENSE',
    manifest.exports,
    manifest.imports,
    manifest.bin,
    manifest.main,
    manifest.types,
  ];
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

function excess() {
  const binaries = paths.filter((path) => BINARIES.includes(path)).length;
  const most = MOST_BYTES + binaries * MOST_BYTES_PER_BINARY;
  return size > most ? [`${size} bytes; with ${binaries} binaries the limit is ${most}`] : [];
}

/** The addon keeps its version as text, which ends with a zero. */
function foreignBinaries() {
  return BINARIES.filter(
    (path) =>
      paths.includes(path) && !readFileSync(join(root, path)).includes(`${manifest.version}\0`),
  );
}

/** What makes a package manager run something: scripts, or a build file at the root. */
function installers() {
  const { stdout } = run('tar', ['-xzOf', tarball, 'package/package.json']);
  const scripts = Object.keys(JSON.parse(stdout).scripts ?? {});
  return [...scripts, ...paths.filter((path) => path === 'binding.gyp')];
}

function words({ status, output }) {
  return status === 0 ? [] : [output];
}

/** What the README says of platforms without a binary: two commands in the installed package. */
function buildErrors() {
  writeFileSync(join(temporary, 'package.json'), '{ "private": true, "type": "module" }\n');
  const quiet = ['--no-audit', '--no-fund', '--loglevel=error'];
  const options = { cwd: temporary };
  const installed = npm(['install', `./${filename}`, '--ignore-scripts', ...quiet], options);
  if (installed.status !== 0) return [installed.output];
  const folder = join(temporary, 'node_modules/relay-limiter');
  rmSync(join(folder, 'prebuilds'), { recursive: true, force: true });
  cpSync(join(folder, 'native/binding.gyp'), join(folder, 'binding.gyp'));
  const headers = nodeWithHeaders();
  const env = { ...process.env, ...(headers && { npm_config_nodedir: headers }) };
  const built = node('node-gyp', 'node-gyp', ['rebuild'], { cwd: folder, env });
  if (built.status !== 0) return [built.output];
  const script = "console.log((await import('relay-limiter')).engineInfo().path)";
  const loaded = run(process.execPath, ['--input-type=module', '--eval', script], options);
  return loaded.stdout.includes(join('build', 'Release')) ? [] : [loaded.output];
}
