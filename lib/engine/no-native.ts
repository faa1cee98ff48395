// Replaces native.ts in bundles without the condition "node", such as those for browsers, because they cannot import
// modules of Node.

import type { NativeBinary } from './native.js';

export function loadNative(): NativeBinary {
  return { state: 'absent', reason: isNode() ? BUNDLED : 'this platform has no native addons' };
}

const BUNDLED =
  'relay-limiter was bundled as for browsers, without its native binary: bundle it with the condition "node", ' +
  'or leave the package out of the bundle (docs/platforms.md)';

function isNode(): boolean {
  return globalThis.process?.versions?.node !== undefined;
}
