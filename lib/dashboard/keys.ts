// Prepares keys for the page. Peers choose their keys, which may be long, so long keys are truncated.

import { createHash } from 'node:crypto';
import { detachString } from '../common/strings.js';

/** The maximum number of code units of a key that are sent. */
export const MAX_KEY_UNITS = 2048;

export interface SentKey {
  readonly key: string;
  readonly length: number;
  readonly hash?: string;
}

/** Truncates a long key and adds a hash of the whole key. */
export function sentKey(key: string): SentKey {
  const { length } = key;
  // Copies, because a substring of a message would keep the whole message in memory.
  if (length <= MAX_KEY_UNITS) return { key: detachString(key), length };
  return { key: detachString(key.slice(0, MAX_KEY_UNITS)), length, hash: hashOf(key) };
}

/** Hashes the UTF-16 code units: in UTF-8, keys that differ in a lone surrogate would have the same bytes. */
function hashOf(key: string): string {
  return createHash('sha256').update(key, 'utf16le').digest('base64url').slice(0, 16);
}
