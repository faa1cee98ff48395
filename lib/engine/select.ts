// Selects the engine of a limiter: the `engine` option, else the environment variable RELAY_LIMITER_ENGINE, else native
// if a binary loads, else js.

import { loadNative } from '#native';
import { limiterError, show } from '../common/errors.js';
import type { EngineName } from '../common/types.js';
import { VERSION } from '../common/version.js';
import type { Engine, SharedFiles } from './engine.js';
import { jsEngine } from './js/index.js';

const VARIABLE = 'RELAY_LIMITER_ENGINE';
type Wish = 'auto' | EngineName;

/** The engine that new limiters use and why: the result of `engineInfo`. */
export interface EngineInfo {
  /** The engine of a limiter that is created without an `engine` option. */
  engine: EngineName;
  /** The reason in words; if the package was bundled without its binary, also what to do. */
  reason: string;
  /** The path of the native binary, if one was found. */
  path?: string;
  /** The version of this package. */
  version: string;
}

let warned = false;

/**
 * Returns the default engine of this process and the reason for it. The first call, or the first limiter, loads the
 * native binary, which takes some milliseconds. Call this at the start of a program, so that no later call has to wait.
 * @throws `ERR_LIMITER_ENGINE` if RELAY_LIMITER_ENGINE names an unavailable engine.
 * @example
 * import { engineInfo } from 'relay-limiter';
 *
 * const { engine, reason } = engineInfo();
 * console.log(`${engine}: ${reason}`);
 */
export function engineInfo(): EngineInfo {
  const { engine, ...info } = select(environmentWish(), VARIABLE);
  return { engine: engine.name, ...info, version: VERSION };
}

/**
 * Returns the engine for a limiter. With `auto`, a binary that exists but does not load causes one process warning.
 * @throws `ERR_LIMITER_ENGINE` if `wish` or the environment names an unavailable engine. @internal
 */
export function selectEngine(wish: Wish | undefined): Engine {
  return wish === undefined
    ? select(environmentWish(), VARIABLE).engine
    : select(wish, 'the engine option').engine;
}

/**
 * Returns the engine for a limiter with a shared table, which only the native engine has: a limit that silently holds
 * for each process would be worse than none.
 * @throws `ERR_LIMITER_ENGINE` if that is not the engine of `wish` or the environment. @internal
 */
export function selectSharedEngine(wish: Wish | undefined): SharedEngine {
  const { engine, reason } =
    wish === undefined ? select(environmentWish(), VARIABLE) : select(wish, 'the engine option');
  return requireShared(engine, reason);
}

/**
 * Returns the functions for files of shared tables, whichever engine limiters have. @throws `ERR_LIMITER_ENGINE`
 * @internal
 */
export function selectSharedFiles(): SharedFiles {
  return selectSharedEngine('auto').sharedFiles;
}

/** @internal */
export type SharedEngine = Engine & { readonly sharedFiles: SharedFiles };

function requireShared(engine: Engine, reason: string): SharedEngine {
  if (engine.sharedFiles !== undefined) return engine as SharedEngine;
  const message = `a shared table needs the native engine, but ${reason}`;
  throw limiterError(Error, 'ERR_LIMITER_ENGINE', message);
}

function select(wish: Wish, source: string): { engine: Engine; reason: string; path?: string } {
  if (wish === 'js') return { engine: jsEngine, reason: `${source} asks for js` };
  const binary = loadNative();
  if (binary.state === 'loaded') {
    const reason = wish === 'native' ? `${source} asks for native` : 'a native binary is available';
    return { engine: binary.engine, reason, path: binary.path };
  }
  if (wish === 'native') {
    const message = `${source} asks for native, but ${binary.reason}`;
    const cause = binary.state === 'broken' ? binary.cause : undefined;
    throw limiterError(Error, 'ERR_LIMITER_ENGINE', message, cause);
  }
  if (binary.state === 'absent') return { engine: jsEngine, reason: binary.reason };
  warnOnce(`relay-limiter: ${binary.reason}; the TypeScript engine runs instead`);
  return { engine: jsEngine, reason: binary.reason, path: binary.path };
}

function environmentWish(): Wish {
  const value = environmentVariable(VARIABLE);
  if (value === undefined || value === '') return 'auto';
  if (value === 'auto' || value === 'native' || value === 'js') return value;
  const message = `${VARIABLE} must be auto, native or js, got ${show(value)}`;
  throw limiterError(Error, 'ERR_LIMITER_ENGINE', message);
}

/**
 * Reads an environment variable. Undefined also if there is no environment, as in browsers, or no permission to read
 * it, as in Deno. @internal
 */
export function environmentVariable(name: string): string | undefined {
  try {
    return globalThis.process?.env?.[name];
  } catch {
    return undefined;
  }
}

function warnOnce(message: string): void {
  if (warned) return;
  warned = true;
  process.emitWarning(message, { code: 'ERR_LIMITER_ENGINE' });
}
