// Installs the packed package with each package manager, with scripts enabled and disabled, in an environment without a
// compiler. Nothing may be compiled, and the native engine must run.
//
//   npm run test:installers               builds the binary first
//   npm run test:installers -- --built    installs the binaries in prebuilds/

import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fetchPackages } from './fetch.mjs';
import { pack } from './pack.mjs';
import { buildPrebuilds, fail, npm, run, table } from './tools.mjs';

const SCRIPTS_OFF = ['--ignore-scripts'];
const INSTALLERS = [
  { package: 'npm@10', program: 'bin/npm-cli.js', off: SCRIPTS_OFF },
  { package: 'npm@11', program: 'bin/npm-cli.js', off: SCRIPTS_OFF },
  { package: 'pnpm@9', program: 'bin/pnpm.cjs', off: SCRIPTS_OFF },
  {
    package: 'pnpm@10',
    program: 'bin/pnpm.cjs',
    off: SCRIPTS_OFF,
    on: { npm_config_dangerously_allow_all_builds: 'true' },
  },
  { package: 'yarn@1', program: 'bin/yarn.js', off: SCRIPTS_OFF },
  {
    package: '@yarnpkg/cli-dist@4',
    program: 'bin/yarn.js',
    off: ['--mode=skip-build'],
    on: { YARN_ENABLE_SCRIPTS: 'true' },
    // It stores packages in archives that only its own loader can read.
    run: ['node'],
  },
  { package: '@oven/bun-linux-x64@1', program: 'bin/bun', native: true, off: SCRIPTS_OFF },
];
/** Programs that package managers and their scripts start. Python, make and compilers are left out on purpose. */
const PROGRAMS = ['sh', 'env', 'uname', 'sed', 'dirname', 'basename', 'tar', 'gzip', 'git', 'cat'];
const ENGINE = `
  import { engineInfo } from 'relay-limiter';
  const { engine, path, reason } = engineInfo();
  console.log(JSON.stringify({ engine, path, reason }));
`;

const temporary = mkdtempSync(join(tmpdir(), 'relay-limiter-installers-'));
process.on('exit', () => rmSync(temporary, { recursive: true, force: true }));
buildPrebuilds([`${process.platform}-${process.arch}`]);
const { filename } = pack(temporary);
const registry = npm(['config', 'get', 'registry']).stdout.trim();
const path = pathWithoutCompiler();
const rows = [['package manager', 'scripts on', 'scripts off']];
for (const installer of INSTALLERS) test(installer);
console.log(`\n${table(rows)}`);

function test(installer) {
  process.stdout.write(`installers: ${installer.package} ... `);
  const name = `installer-${installer.package.replace(/[@/]+/g, '-').replace(/^-/, '')}`;
  const { folder, missing } = fetchPackages(name, [installer.package]);
  if (missing !== undefined) fail(missing);
  const [, module] = installer.package.match(/^(.+)@/);
  const program = join(folder, 'node_modules', module, installer.program);
  const command = installer.native ? [program] : [process.execPath, program];
  const outcomes = [true, false].map((scripts) => install(installer, command, scripts));
  const words = outcomes.map((problem) => (problem === undefined ? 'native engine' : 'FAILED'));
  console.log(words.join('; '));
  for (const problem of outcomes.filter(Boolean)) {
    console.error(problem);
    process.exitCode = 1;
  }
  rows.push([installer.package, ...words]);
}

/** Installs the package in a new folder. Returns the problem as text, or undefined. */
function install(installer, [command, ...args], scripts) {
  const folder = mkdtempSync(join(temporary, 'project-'));
  copyFileSync(join(temporary, filename), join(folder, filename));
  const manifest = {
    private: true,
    type: 'module',
    dependencies: { 'relay-limiter': `file:./${filename}` },
    // Bun runs scripts of these packages only.
    trustedDependencies: ['relay-limiter'],
  };
  writeFileSync(join(folder, 'package.json'), JSON.stringify(manifest));
  writeFileSync(join(folder, 'engine.mjs'), ENGINE);
  const options = { cwd: folder, env: environment(scripts ? installer.on : {}), timeout: 300_000 };
  const off = scripts ? [] : installer.off;
  const installed = run(command, [...args, 'install', ...off], options);
  if (installed.status !== 0) return installed.output;
  const [runner, ...before] = installer.run
    ? [command, ...args, ...installer.run]
    : [process.execPath];
  const ran = run(runner, [...before, 'engine.mjs'], options);
  if (ran.status !== 0) return ran.output;
  const { engine, path, reason } = JSON.parse(ran.stdout);
  if (engine !== 'native') return `the engine is ${engine}: ${reason}`;
  if (!path.includes('prebuilds')) return `compiled by ${installer.package}: ${path}`;
  const root = join(folder, 'node_modules/relay-limiter');
  return existsSync(root) && readdirSync(realpathSync(root)).includes('build')
    ? `${installer.package} made ${join(root, 'build')}`
    : undefined;
}

/** Returns this process's environment without the variables that npm sets, and with a separate home folder. */
function environment(more) {
  const kept = Object.entries(process.env).filter(([name]) => !/^(npm|yarn|pnpm)_/i.test(name));
  return {
    ...Object.fromEntries(kept),
    PATH: path,
    HOME: temporary,
    RELAY_LIMITER_ENGINE: '',
    // With CI set, some package managers fail if there is no lock file.
    CI: '',
    npm_config_registry: registry,
    YARN_NPM_REGISTRY_SERVER: registry,
    YARN_ENABLE_TELEMETRY: '0',
    // Yarn 1 caches a tarball by name and version and ignores its content.
    YARN_CACHE_FOLDER: join(temporary, 'yarn'),
    ...more,
  };
}

function pathWithoutCompiler() {
  const folder = join(temporary, 'bin');
  mkdirSync(folder);
  symlinkSync(process.execPath, join(folder, 'node'));
  for (const program of PROGRAMS) {
    const found = process.env.PATH.split(':').find((part) => existsSync(join(part, program)));
    if (found !== undefined) symlinkSync(join(found, program), join(folder, program));
  }
  return folder;
}
