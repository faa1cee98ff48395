// What the scripts share: where the project is, and how they run other programs.

import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('..', import.meta.url));
export const require = createRequire(import.meta.url);

/** Runs a program; its words are kept. */
export function run(command, args, options = {}) {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    cwd: root,
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
    ...options,
  });
  return { status, stdout: stdout ?? '', output: `${stdout ?? ''}${stderr ?? ''}${error ?? ''}` };
}

/** Runs a command of a package that is installed here. */
export function node(name, command, args, options) {
  const folder = join(root, 'node_modules', name);
  const { bin } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
  const script = join(folder, typeof bin === 'string' ? bin : bin[command]);
  return run(process.execPath, [script, ...args], options);
}

/** Builds the binaries of `targets` into prebuilds/; ends the program where that fails. */
export function buildPrebuilds(targets) {
  const { status } = run(process.execPath, ['scripts/prebuild.mjs', '--only', targets.join()], {
    stdio: 'inherit',
  });
  if (status !== 0) process.exit(1);
  console.log();
}

/** Runs npm. */
export function npm(args, options) {
  return run('npm', args, { shell: process.platform === 'win32', ...options });
}

/** The prefix of a Node that was installed with its headers: they need not be downloaded. */
export function nodeWithHeaders() {
  const prefix = dirname(dirname(process.execPath));
  return existsSync(`${prefix}/include/node/node_api.h`) ? prefix : undefined;
}

export function fail(output) {
  process.stderr.write(`${output.trimEnd()}\n`);
  process.exit(1);
}

/** Rows of text as aligned columns; the first row is the head. */
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
