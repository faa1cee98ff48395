// Checks the tarball that npm would publish: it must contain all required files and no others, its types and entry
// points must be correct, and the addon must build from it.
//
//   npm run check:package
//   npm run check:package -- --complete     before a release: every binary must be present
//   npm run check:package -- --to FOLDER    copies the tarball to FOLDER if every check passes

import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pack } from './pack.mjs';
import { TARGETS } from './targets.mjs';
import { node, nodeWithHeaders, npm, require, root, run, table } from './tools.mjs';

// Compressed sizes. The package takes about 1,000 KB without binaries; a binary takes 385 to 484 KB, 427 KB on average.
const MAX_BYTES = 1_050_000;
const MAX_BYTES_PER_BINARY = 450_000;
const ALLOWED = [
  /^dist\/[\w/-]+\.(js|d\.ts)$/,
  /^dist\/dashboard\/uplot\.LICENSE$/,
  /^native\/[\w/-]+\.(h|cc|map|gyp)$/,
  /^docs\/((design\/)?[\w-]+\.md|grafana\.json)$/,
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
check('contains no other files', unexpectedFiles);
check('contains every entry point', missingEntries);
check(`contains every ${isComplete() ? '' : 'built '}binary`, missingBinaries);
check('contains only binaries of this version', outdatedBinaries);
check('is within the size limit', excessSize);
check('runs no script on installation', installScripts);
check('publint', () => problemsOf(node('publint', 'publint', [tarball, '--strict'])));
// Module resolution as in the supported Node versions. This tool reports a require() of an ES module as an error, but
// each of those versions supports it.
const PROFILE = ['--profile', 'node16', '--ignore-rules', 'cjs-resolves-to-esm'];
check('arethetypeswrong', () =>
  problemsOf(node('@arethetypeswrong/cli', 'attw', [tarball, ...PROFILE])),
);
check('builds from its sources', buildErrors);
const at = process.argv.indexOf('--to');
if (at !== -1 && !process.exitCode) cpSync(tarball, join(process.argv[at + 1], filename));
console.log(`\n${filename}: ${paths.length} files, ${Math.round(size / 1000)} KB packed`);
console.log(`\n${table(rows)}`);

function isComplete() {
  return process.argv.includes('--complete');
}

/** Runs one check: prints a line of progress and adds a row to the table. `findProblems` returns a list of texts. */
function check(name, findProblems) {
  process.stdout.write(`package: ${name} ... `);
  const problems = findProblems();
  console.log(problems.length === 0 ? 'yes' : `NO\n${problems.join('\n')}`);
  rows.push([name, problems.length === 0 ? 'yes' : 'NO']);
  if (problems.length > 0) process.exitCode = 1;
}

function unexpectedFiles() {
  return paths.filter(
    (path) => !ALLOWED.some((allowed) => allowed.test(path)) && !BINARIES.includes(path),
  );
}

/** Returns missing licences and missing files that package.json names. */
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
    (path) => !paths.includes(path) && (isComplete() || existsSync(join(root, path))),
  );
}

function excessSize() {
  const binaries = paths.filter((path) => BINARIES.includes(path)).length;
  const limit = MAX_BYTES + binaries * MAX_BYTES_PER_BINARY;
  return size > limit ? [`${size} bytes; with ${binaries} binaries the limit is ${limit}`] : [];
}

/** Returns binaries of other versions. The addon contains its version as a zero-terminated string. */
function outdatedBinaries() {
  return BINARIES.filter(
    (path) =>
      paths.includes(path) && !readFileSync(join(root, path)).includes(`${manifest.version}\0`),
  );
}

/** Returns what makes a package manager run a program: scripts, or a build file at the root. */
function installScripts() {
  const { stdout } = run('tar', ['-xzOf', tarball, 'package/package.json']);
  const scripts = Object.keys(JSON.parse(stdout).scripts ?? {});
  return [...scripts, ...paths.filter((path) => path === 'binding.gyp')];
}

function problemsOf({ status, output }) {
  return status === 0 ? [] : [output];
}

/**
 * Builds the addon in the installed package, as the README describes for platforms without a binary; but without
 * optimizations, which take most of the time.
 */
function buildErrors() {
  writeFileSync(join(temporary, 'package.json'), '{ "private": true, "type": "module" }\n');
  const quiet = ['--prefer-offline', '--no-audit', '--no-fund', '--loglevel=error'];
  const options = { cwd: temporary };
  const installed = npm(['install', `./${filename}`, '--ignore-scripts', ...quiet], options);
  if (installed.status !== 0) return [installed.output];
  const folder = join(temporary, 'node_modules/relay-limiter');
  rmSync(join(folder, 'prebuilds'), { recursive: true, force: true });
  cpSync(join(folder, 'native/binding.gyp'), join(folder, 'binding.gyp'));
  const headers = nodeWithHeaders();
  const env = { ...process.env, CXXFLAGS: '-O0', ...(headers && { npm_config_nodedir: headers }) };
  const built = node('node-gyp', 'node-gyp', ['rebuild'], { cwd: folder, env });
  if (built.status !== 0) return [built.output];
  const script = "console.log((await import('relay-limiter')).engineInfo().path)";
  const loaded = run(process.execPath, ['--input-type=module', '--eval', script], options);
  return loaded.stdout.includes(join('build', 'Release')) ? [] : [loaded.output];
}
