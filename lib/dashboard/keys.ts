// Keys as they are sent to the page. Peers choose their keys, and they may be long.

import { createHash } from 'node:crypto';
import { copyOf } from '../common/strings.js';

/** Units of a key that are sent. */
export const MOST_KEY = 2048;

export interface SentKey {
  readonly key: string;
  readonly length: number;
  readonly hash?: string;
}

/** A key as it is sent: a long one cut, with a hash of all of it. */
export function sentKey(key: string): SentKey {
  const { length } = key;
  // Copies: a key that was cut out of a message would keep all of it.
  if (length <= MOST_KEY) return { key: copyOf(key), length };
  return { key: copyOf(key.slice(0, MOST_KEY)), length, hash: hashOf(key) };
}

/** Of its code units: as UTF-8, keys that differ in half a character would be one. */
function hashOf(key: string): string {
  return createHash('sha256').update(key, 'utf16le').digest('base64url').slice(0, 16);
}
