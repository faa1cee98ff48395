// Finds the file of the native addon: in the installed package, or beside the bundle that contains the package. Never
// returns a file of another package or of the application.

import { readdirSync, readFileSync, statSync } from 'node:fs';
// The default export, because webpack replaces a named import of `createRequire` at build time.
import module from 'node:module';
import { basename, dirname, isAbsolute, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The path of the addon, or the reason why no addon was found. */
export type BinaryFile = { readonly path: string } | { readonly absent: string };

const PACKAGE = 'relay-limiter';
/** node-gyp builds `relay_limiter.node`; the package contains `relay-limiter.node`. */
const ADDON = /^relay[-_]limiter(\.\w+)*\.node$/;

/** Never throws: if reading files is not permitted, as in Deno, the result is `absent` with that reason. */
export function findBinary(): BinaryFile {
  try {
    const folder = ownFolder();
    if (folder === undefined) return bundled();
    const root = join(folder, '../..');
    return packageNameOf(root) === PACKAGE ? inPackage(root) : besideBundle(folder);
  } catch (error) {
    return { absent: `cannot search for a native binary: ${(error as Error).message}` };
  }
}

/**
 * The folder of this code; undefined if the code is in no file. `__dirname` is for CommonJS bundles, and comes second
 * because `node --eval` defines one for all modules. A bundler may replace the fields of `import.meta` by the folder on
 * the build machine, so each one must exist. `url` is the only field that some, such as Jest 29, provide.
 */
function ownFolder(): string | undefined {
  const url: string | undefined = import.meta.url;
  const fromUrl = url?.startsWith('file:') ? dirname(fileURLToPath(url)) : undefined;
  return [import.meta.dirname, commonJsFolder(), fromUrl].find(isFolder);
}

function commonJsFolder(): string | undefined {
  try {
    // `typeof` does not work here: webpack evaluates it at build time, wrongly for ES modules.
    return __dirname;
  } catch {
    return undefined;
  }
}

function isFolder(path: string | undefined): boolean {
  if (path === undefined || !isAbsolute(path)) return false;
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
}

/** The name in the package.json of a folder; undefined if there is no such file. */
function packageNameOf(folder: string): unknown {
  let text: string;
  try {
    text = readFileSync(join(folder, 'package.json'), 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw error;
  }
  try {
    return JSON.parse(text).name;
  } catch {
    return undefined;
  }
}

function inPackage(root: string): BinaryFile {
  try {
    const nodeGypBuild: Finder = module.createRequire(join(root, 'package.json'))('node-gyp-build');
    const path = nodeGypBuild.path(root);
    // node-gyp-build also searches beside the running program, where another application may have its own addon.
    if (ADDON.test(basename(path))) return { path };
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'MODULE_NOT_FOUND') {
      return { absent: 'node-gyp-build, which finds native binaries, is not installed here' };
    }
    if (!message.startsWith('No native build')) throw error;
  }
  return { absent: `no native binary for ${process.platform}-${process.arch}` };
}

interface Finder {
  path(packageRoot: string): string;
}

function besideBundle(folder: string): BinaryFile {
  const name = readdirSync(folder)
    .sort()
    .find((name) => ADDON.test(name));
  return name === undefined ? bundled(folder) : { path: join(folder, name) };
}

function bundled(folder?: string): BinaryFile {
  const copy = folder === undefined ? '' : `copy its .node file to ${folder}, or `;
  const remedy = `${copy}leave the package out of the bundle (docs/platforms.md)`;
  return { absent: `relay-limiter was bundled without its native binary: ${remedy}` };
}
