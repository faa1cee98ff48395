// Fetches npm packages that only a check needs. They are stored in out/fetched/ and never become dependencies.

import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { npm, root } from './tools.mjs';

export const FETCHED = join(root, 'out/fetched');
const QUIET = ['--no-audit', '--no-fund', '--no-package-lock', '--loglevel=error'];

/**
 * Installs `specs` (package names with versions, as npm accepts them) together into one folder, on the first call only.
 * Returns `{ folder }`, or `{ missing }` with the reason as text. Uses --force, because a package may be for another
 * platform.
 */
export function fetchPackages(name, specs) {
  const folder = join(FETCHED, name);
  if (existsSync(folder)) return { folder };
  mkdirSync(FETCHED, { recursive: true });
  const partial = mkdtempSync(join(FETCHED, `.${name}-`));
  try {
    writeFileSync(join(partial, 'package.json'), '{ "private": true, "type": "module" }\n');
    const { status, output } = npm(['install', ...specs, '--force', '--ignore-scripts', ...QUIET], {
      cwd: partial,
    });
    if (status !== 0) {
      return { missing: `npm cannot install ${specs.join(' ')}: ${output.trim().split('\n')[0]}` };
    }
    rename(partial, folder);
    return { folder };
  } finally {
    rmSync(partial, { recursive: true, force: true });
  }
}

/** Does nothing if another check has stored the same packages meanwhile. */
function rename(partial, folder) {
  try {
    renameSync(partial, folder);
  } catch (error) {
    if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error;
  }
}
