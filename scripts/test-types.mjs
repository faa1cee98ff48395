// Compiles a user's program, test/smoke/user.mts, against the built declarations, without skipLibCheck: with the oldest
// supported TypeScript, with one in between and with the newest.
//
//   npm run test:types

import { cpSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fetchPackages } from './fetch.mjs';
import { fail, root, run } from './tools.mjs';

/** The libraries that the package's declarations import types from. */
const LIBRARIES = ['@types/node@20', '@types/ws@8', 'fastify@5', 'prom-client@15', 'ws@8'];
const COMPILERS = [
  // Fastify's own declarations need TypeScript 5.4.
  { version: '5.0.4', foreign: /^node_modules\/fastify\// },
  { version: '5.4.5' },
  { version: 'latest' },
];
const PROJECT = {
  compilerOptions: {
    noEmit: true,
    strict: true,
    skipLibCheck: false,
    target: 'es2022',
    module: 'node16',
    moduleResolution: 'node16',
    types: ['node'],
  },
  files: ['user.mts'],
};

const names = COMPILERS.map(({ version }) => `typescript-${version}`);
const aliases = names.map((name, n) => `${name}@npm:typescript@${COMPILERS[n].version}`);
const { folder, missing } = fetchPackages('types', [...aliases, ...LIBRARIES]);
if (missing !== undefined) fail(`types: ${missing}`);
install();
for (const [n, name] of names.entries()) compile(name, COMPILERS[n]);

/** Installs the package as for a user: in node_modules next to the libraries, not as a part of the program. */
function install() {
  const installed = join(folder, 'node_modules/relay-limiter');
  rmSync(installed, { recursive: true, force: true });
  mkdirSync(installed);
  cpSync(join(root, 'package.json'), join(installed, 'package.json'));
  cpSync(join(root, 'dist'), join(installed, 'dist'), { recursive: true });
  cpSync(join(root, 'test/smoke/user.mts'), join(folder, 'user.mts'));
  writeFileSync(join(folder, 'tsconfig.json'), `${JSON.stringify(PROJECT, null, 2)}\n`);
}

function compile(name, { version, foreign }) {
  process.stdout.write(`types: TypeScript ${version} ... `);
  const compiler = join(folder, 'node_modules', name, 'bin/tsc');
  const { status, output } = run(process.execPath, [compiler, '-p', '.'], {
    cwd: folder,
  });
  // In an error of several lines, every line except the first is indented.
  const errors = output.split(/\n(?! )/).filter((error) => error.trim() !== '');
  const ours = errors.filter((error) => foreign === undefined || !foreign.test(error));
  const passed = ours.length === 0 && (status === 0 || errors.length > 0);
  console.log(passed ? 'passed' : `FAILED\n${ours.join('\n') || output}`);
  if (!passed) process.exitCode = 1;
}
