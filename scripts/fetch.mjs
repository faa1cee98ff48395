// Fetches npm packages that only a check needs. They are stored in out/fetched/ and never become dependencies.

import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
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
  if (existsSync(join(folder, 'complete'))) return { folder };
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'package.json'), '{ "private": true, "type": "module" }\n');
  const { status, output } = npm(['install', ...specs, '--force', '--ignore-scripts', ...QUIET], {
    cwd: folder,
  });
  if (status !== 0) {
    return { missing: `npm cannot install ${specs.join(' ')}: ${output.trim().split('\n')[0]}` };
  }
  writeFileSync(join(folder, 'complete'), `${specs.join('\n')}\n`);
  return { folder };
}
