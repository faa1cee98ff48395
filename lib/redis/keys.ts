// Where a peer is in the store: one key of its own, whatever its name. Two names are one peer exactly
// when `===`, as everywhere in this package.

import { createHash } from 'node:crypto';

/**
 * Into how many parts the peers are dealt, each on one server of a cluster: so many hash slots are used.
 * The braces of a name are escaped, so a peer cannot choose its part but by trial.
 */
export const SHARDS = 64;

/** Longer names are hashed: an attacker's must not fill the store. */
const LONGEST = 128;
// What would be read as a hash tag, what marks an escape or a digest, and what UTF-8 cannot tell apart.
const SPECIAL = /[%{}#]|\p{Surrogate}/gu;

/** The number of the part that a peer is in: FNV-1a of its name. */
export function shardOf(key: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < key.length; i += 1) {
    hash = Math.imul(hash ^ key.charCodeAt(i), 0x01000193);
  }
  return (hash >>> 16) % SHARDS;
}

/** The key of something in one part of the store. */
export function storeKey(prefix: string, part: number | string, name: string): string {
  return `${prefix}:{${part}}:${escaped(name)}`;
}

function escaped(name: string): string {
  if (name.length > LONGEST) {
    return `#${createHash('sha256').update(name, 'utf16le').digest('base64url')}`;
  }
  if (isPlain(name)) return name;
  return name.replace(SPECIAL, (unit) => `%${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** Whether there is nothing to escape, at a glance: a pattern would take as long as all the rest. */
function isPlain(name: string): boolean {
  for (let i = 0; i < name.length; i += 1) {
    const unit = name.charCodeAt(i);
    const isSpecial = unit === 35 || unit === 37 || unit === 123 || unit === 125;
    if (isSpecial || (unit & 0xf800) === 0xd800) return false;
  }
  return true;
}
