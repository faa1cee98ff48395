// Stands in for native.ts where there is no Node-API to load a binary with: browsers, bundles.

import type { NativeBinary } from './native.js';

export function loadNative(): NativeBinary {
  return { state: 'absent', reason: 'this platform has no native addons' };
}
