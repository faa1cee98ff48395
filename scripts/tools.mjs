// Helpers shared by the scripts: the project's folder, and functions that run other programs.

import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('..', import.meta.url));
export const require = createRequire(import.meta.url);

/** Runs a program. Returns its exit status and its output as text. */
export function run(command, args, options = {}) {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    cwd: root,
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
    ...options,
  });
  return { status, stdout: stdout ?? '', output: `${stdout ?? ''}${stderr ?? ''}${error ?? ''}` };
}

/** Runs a command of an installed package. */
export function node(name, command, args, options) {
  const folder = join(root, 'node_modules', name);
  const { bin } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
  const script = join(folder, typeof bin === 'string' ? bin : bin[command]);
  return run(process.execPath, [script, ...args], options);
}

/**
 * Builds the binaries of `targets` into prebuilds/. Ends the program if that fails. With the flag --built it builds
 * nothing: the binaries are those of an earlier `npm run prebuildify`.
 */
export function buildPrebuilds(targets) {
  if (process.argv.includes('--built')) return;
  const { status } = run(process.execPath, ['scripts/prebuild.mjs', '--only', targets.join()], {
    stdio: 'inherit',
  });
  if (status !== 0) process.exit(1);
  console.log();
}

export function npm(args, options) {
  return run('npm', args, { shell: process.platform === 'win32', ...options });
}

/** Returns the prefix of this Node if its headers are installed, so that node-gyp does not download them. */
export function nodeWithHeaders() {
  const prefix = dirname(dirname(process.execPath));
  return existsSync(`${prefix}/include/node/node_api.h`) ? prefix : undefined;
}

export function fail(output) {
  process.stderr.write(`${output.trimEnd()}\n`);
  process.exit(1);
}

/** Formats rows of cells as aligned columns. The first row is the header. */
export function table(rows) {
  const widths = rows[0].map((_, i) => Math.max(...rows.map((row) => String(row[i]).length)));
  return rows
    .map((row) =>
      row
        .map((cell, i) => String(cell).padEnd(widths[i]))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
