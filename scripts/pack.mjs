// Packs the tarball that npm publishes. Checks, tests and the release all use this tarball.
//
//   npm run package                   into out/
//   npm run package -- --to FOLDER    into FOLDER
//
// The tarball is packed from a temporary copy, which differs from the repository in two respects. The addon's build
// file is in native/, because package managers compile the addon on installation if that file is at the root. The
// manifest has no scripts and no development dependencies.

import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { fail, npm, root } from './tools.mjs';

/** Packs the tarball into `folder`. Returns npm's `{ filename, files, size }`. */
export function pack(folder) {
  const stage = mkdtempSync(join(tmpdir(), 'relay-limiter-pack-'));
  // Also if npm fails, which ends the program.
  process.on('exit', () => rmSync(stage, { recursive: true, force: true }));
  fill(stage);
  return npmPack(['--pack-destination', resolve(folder)], stage);
}

function fill(stage) {
  const copy = (from, to) => {
    mkdirSync(join(stage, dirname(to)), { recursive: true });
    cpSync(join(root, from), join(stage, to));
  };
  const { files } = npmPack(['--dry-run'], root);
  for (const { path } of files) copy(path, path);
  copy('binding.gyp', 'native/binding.gyp');
  const { scripts, devDependencies, ...manifest } = JSON.parse(
    readFileSync(join(root, 'package.json'), 'utf8'),
  );
  writeFileSync(join(stage, 'package.json'), `${JSON.stringify(manifest, null, 2)}\n`);
}

function npmPack(options, cwd) {
  const { status, stdout, output } = npm(['pack', '--json', '--ignore-scripts', ...options], {
    cwd,
  });
  if (status !== 0) fail(output);
  return JSON.parse(stdout)[0];
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const at = process.argv.indexOf('--to');
  const folder = at === -1 ? join(root, 'out') : process.argv[at + 1];
  if (folder === undefined) fail('package: --to takes a folder');
  mkdirSync(folder, { recursive: true });
  const { filename, files, size } = pack(folder);
  console.log(`${join(folder, filename)}: ${files.length} files, ${Math.round(size / 1000)} KB`);
}
