// Loads the native addon, or reports the exact reason why it cannot. select.ts chooses the engine.

import { randomFillSync } from 'node:crypto';
import module from 'node:module';
import { VERSION } from '../common/version.js';
import { findBinary } from './binary-file.js';
import { requireLoadable } from './elf.js';
import { type Engine, SLOT_BUFFER } from './engine.js';
import { ABI_VERSION, type Addon, nativeLimiters } from './native-limiters.js';
import { nativeRuleLimiter, nativeSharedRuleLimiter } from './native-rules.js';
import { sharedNames, sharedPathOf } from './shared-paths.js';

/** The result of loading the native binary: loaded, absent (no file found), or broken (the file cannot be used). */
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

/** Loads the binary at the first call, and returns the same result at each later one. */
export function loadNative(): NativeBinary {
  binary ??= load();
  return binary;
}

function load(): NativeBinary {
  const file = findBinary();
  if ('absent' in file) return { state: 'absent', reason: file.absent };
  const { path } = file;
  try {
    requireLoadable(path);
    // Every addon is CommonJS.
    const addon: Addon = module.createRequire(path)(path);
    if (addon.version !== VERSION) {
      throw new Error(`binary version ${addon.version} does not match package version ${VERSION}`);
    }
    if (addon.abiVersion !== ABI_VERSION) {
      throw new Error('the binary was built from other sources of this version');
    }
    return { state: 'loaded', engine: nativeEngine(addon), path };
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    return { state: 'broken', reason: `${path} failed to load: ${why}`, path, cause };
  }
}

function nativeEngine(addon: Addon): Engine {
  const limiters = nativeLimiters(addon);
  const RuleLimiter = nativeRuleLimiter(addon.callArguments, addon.RuleLimiter);
  const SharedRuleLimiter = nativeSharedRuleLimiter(addon.callArguments, addon.SharedRuleLimiter);
  const secret = () => randomFillSync(new BigUint64Array(2));
  return {
    name: 'native',
    rateLimiter(config) {
      const path = config.sharedPath;
      const Limiter = path === undefined ? limiters.RateLimiter : limiters.SharedRateLimiter;
      return new Limiter(config, secret(), SLOT_BUFFER, path);
    },
    orderbook(config) {
      const path = config.sharedPath;
      const Limiter =
        path === undefined ? limiters.OrderbookLimiter : limiters.SharedOrderbookLimiter;
      return new Limiter(config, secret(), SLOT_BUFFER, path);
    },
    direct(config) {
      const path = config.sharedPath;
      const Limiter = path === undefined ? limiters.DirectLimiter : limiters.SharedDirectLimiter;
      return new Limiter(config, secret(), SLOT_BUFFER, path);
    },
    leaseTable: () => new limiters.LeaseTable(secret()),
    rules: (config) =>
      config.shared === undefined
        ? new RuleLimiter(config, secret())
        : new SharedRuleLimiter(config, secret()),
    sharedFiles: {
      pathOf: sharedPathOf,
      names: sharedNames,
      inspect: addon.inspectShared,
      remove: addon.removeShared,
    },
  };
}
