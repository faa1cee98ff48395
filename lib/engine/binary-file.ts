// Finds the file of the native addon: in the installed package, or beside the bundle that the package is part of.
// Names no file of another package or of the application.

import { readdirSync, readFileSync, statSync } from 'node:fs';
// By its default export: webpack takes `createRequire` for its own, and leaves nothing of it for run time.
import module from 'node:module';
import { basename, dirname, isAbsolute, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The addon's file, or why there is none. */
export type BinaryFile = { readonly path: string } | { readonly absent: string };

const PACKAGE = 'relay-limiter';
/** `relay_limiter.node` as node-gyp builds it, `relay-limiter.node` as the package carries it. */
const ADDON = /^relay[-_]limiter(\.\w+)*\.node$/;

/** Never throws: without permission to look, as in Deno, that is the reason. */
export function findBinary(): BinaryFile {
  try {
    const folder = ownFolder();
    if (folder === undefined) return bundled();
    const root = join(folder, '../..');
    return nameOfPackage(root) === PACKAGE ? inPackage(root) : besideBundle(folder);
  } catch (error) {
    return { absent: `no native binary can be looked for: ${(error as Error).message}` };
  }
}

/**
 * The folder that this code runs from; undefined if no file holds the code. `__dirname` is for CommonJS bundles, and
 * comes second, since `node --eval` has one for all modules. Bundlers may put the folder of their own machine for what
 * they find in `import.meta`; `url` is there in those that know nothing else of it, such as Jest 29.
 */
function ownFolder(): string | undefined {
  const url: string | undefined = import.meta.url;
  const fromUrl = url?.startsWith('file:') ? dirname(fileURLToPath(url)) : undefined;
  return [import.meta.dirname, commonJsFolder(), fromUrl].find(isFolder);
}

function commonJsFolder(): string | undefined {
  try {
    // Not by `typeof`, which webpack answers itself, and wrongly for ES modules.
    return __dirname;
  } catch {
    return undefined;
  }
}

function isFolder(path: string | undefined): boolean {
  if (path === undefined || !isAbsolute(path)) return false;
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
}

/** What the package.json of a folder calls it; undefined if it has none. */
function nameOfPackage(folder: string): unknown {
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
    // It also looks beside the program that runs, where another application may keep its own.
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
  const remedy = `${copy}leave the package out of the bundle (docs/bundling.md)`;
  return { absent: `relay-limiter was bundled without its native binary: ${remedy}` };
}
