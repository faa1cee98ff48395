// Which engine a limiter gets, and why: the option, else RELAY_LIMITER_ENGINE, else what is there.

import { loadNative } from '#native';
import { limiterError, show } from '../common/errors.js';
import type { EngineName } from '../common/types.js';
import { VERSION } from '../common/version.js';
import type { Engine } from './engine.js';
import { jsEngine } from './js/index.js';

const VARIABLE = 'RELAY_LIMITER_ENGINE';
type Wish = 'auto' | EngineName;

export interface EngineInfo {
  /** The engine a limiter made without an `engine` option gets. */
  engine: EngineName;
  /** Why that one, in words; if the package was bundled without its binary, also what to do. */
  reason: string;
  /** The native binary's file, where one was found. */
  path?: string;
  /** This package's version. */
  version: string;
}

let warned = false;

/**
 * Which engine runs by default in this process, and why. The first call, or the first limiter that is made, loads the
 * native binary, which takes some milliseconds: call it when a program starts, and no later call pays for it.
 * @throws `ERR_LIMITER_ENGINE` where the environment names an engine that is not there.
 */
export function engineInfo(): EngineInfo {
  const { engine, ...info } = select(environmentWish(), VARIABLE);
  return { engine: engine.name, ...info, version: VERSION };
}

/**
 * The engine for a limiter. A binary that exists and does not load warns once under `auto`.
 * @throws `ERR_LIMITER_ENGINE` where `wish`, or the environment, names an engine that is not there. @internal
 */
export function selectEngine(wish: Wish | undefined): Engine {
  return wish === undefined
    ? select(environmentWish(), VARIABLE).engine
    : select(wish, 'the engine option').engine;
}

function select(wish: Wish, source: string): { engine: Engine; reason: string; path?: string } {
  if (wish === 'js') return { engine: jsEngine, reason: `${source} asks for js` };
  const binary = loadNative();
  if (binary.state === 'loaded') {
    const reason = wish === 'native' ? `${source} asks for native` : 'a native binary is there';
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

/** Undefined as well where there is no environment, as in browsers, or where it may not be read, as in Deno. @internal */
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
