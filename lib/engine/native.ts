// Finds and loads the native addon, and says exactly why where it cannot. Chooses nothing.

import { randomFillSync } from 'node:crypto';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { VERSION } from '../version.js';
import { requireLoadable } from './elf.js';
import { type Engine, SEAT } from './engine.js';
import { type Addon, DOOR, nativeLimiters } from './native-limiters.js';

/** What became of the native binary: there and running, not there, or there and unusable. */
export type NativeBinary =
  | { readonly state: 'loaded'; readonly engine: Engine; readonly path: string }
  | { readonly state: 'absent'; readonly reason: string }
  | {
      readonly state: 'broken';
      readonly reason: string;
      readonly path: string;
      readonly cause: unknown;
    };

let binary: NativeBinary | undefined;

/** The binary of this process, looked for once: node-gyp-build knows where. */
export function loadNative(): NativeBinary {
  binary ??= load();
  return binary;
}

function load(): NativeBinary {
  // Both are CommonJS: the finder, and every addon.
  const require = createRequire(import.meta.url);
  let path: string;
  try {
    path = find(require);
  } catch (error) {
    return { state: 'absent', reason: absence(error) };
  }
  try {
    requireLoadable(path);
    const addon: Addon = require(path);
    if (addon.version !== VERSION) {
      throw new Error(`it is of version ${addon.version}, the package of version ${VERSION}`);
    }
    if (addon.door !== DOOR) throw new Error('it was built from other sources of this version');
    return { state: 'loaded', engine: nativeEngine(addon), path };
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    return { state: 'broken', reason: `${path} failed to load: ${why}`, path, cause };
  }
}

function find(require: NodeJS.Require): string {
  const nodeGypBuild: { path(packageRoot: string): string } = require('node-gyp-build');
  return nodeGypBuild.path(fileURLToPath(new URL('../..', import.meta.url)));
}

/**
 * Why nothing was found: no finder, as in an application bundled into one file; no binary; or no
 * permission to look, as in Deno.
 */
function absence(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === 'MODULE_NOT_FOUND') {
    return 'node-gyp-build, which finds native binaries, is not installed here';
  }
  return message.startsWith('No native build')
    ? `no native binary for ${process.platform}-${process.arch}`
    : `no native binary can be looked for: ${message}`;
}

function nativeEngine(addon: Addon): Engine {
  const { RateLimiter, OrderbookLimiter, DirectLimiter, LeaseTable } = nativeLimiters(addon);
  const secret = () => randomFillSync(new BigUint64Array(2));
  return {
    name: 'native',
    rateLimiter: (config) => new RateLimiter(config, secret(), SEAT),
    orderbook: (config) => new OrderbookLimiter(config, secret(), SEAT),
    direct: (config) => new DirectLimiter(config, secret(), SEAT),
    leaseTable: () => new LeaseTable(secret()),
  };
}
