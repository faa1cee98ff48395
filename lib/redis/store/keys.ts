// What a peer is known by, and where it is in the store: one key of its own, whatever its name. Two names
// are one peer exactly when `===`, as everywhere in this package.

import { createHash } from 'node:crypto';

/**
 * Into how many parts the peers are dealt, each on one server of a cluster: so many hash slots are used.
 * The braces of a name are escaped, so a peer cannot choose its part but by trial.
 */
export const SHARDS = 64;

/** Longer names are known by a digest: an attacker's must fill neither a process nor the store. */
const LONGEST = 128;
const DIGEST = /^#[0-9a-f]{128}$/;
// What would be read as a hash tag, what marks an escape or a digest, and what UTF-8 cannot tell apart.
const SPECIAL = /[%{}#]|\p{Surrogate}/gu;

/** What a peer is known by: its name, or a digest, which is longer than any such name. */
export function idOf(key: string): string {
  if (key.length <= LONGEST) return key;
  return `#${createHash('sha512').update(key, 'utf16le').digest('hex')}`;
}

/** Whether an id is the name itself. */
export function isName(id: string): boolean {
  return id.length <= LONGEST;
}

/** Whether a text can be the id of a peer. */
export function isId(text: string): boolean {
  return isName(text) || DIGEST.test(text);
}

/** The number of the part that a peer is in: FNV-1a of its id. */
export function shardOf(id: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < id.length; i += 1) {
    hash = Math.imul(hash ^ id.charCodeAt(i), 0x01000193);
  }
  return (hash >>> 16) % SHARDS;
}

/** The key of something in one part of the store. */
export function storeKey(prefix: string, part: number | string, id: string): string {
  return `${prefix}:{${part}}:${isName(id) ? escaped(id) : id}`;
}

function escaped(name: string): string {
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
