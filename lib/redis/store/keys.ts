// Names of peers, and the store's keys for them. Each peer has one key, whatever its name is. Two names are one peer
// exactly if they are `===`, as everywhere in this package.

import { createHash } from 'node:crypto';

/**
 * The number of shards: groups of peers, each on one server of a cluster. They use as many hash slots. Braces in names
 * are escaped, so a peer can choose its shard only by trial and error.
 */
export const SHARDS = 64;

/** Longer names (in UTF-16 code units) become a digest, so that an attacker's names fill neither process nor store. */
const LONGEST_NAME = 128;
const DIGEST = /^#[0-9a-f]{128}$/;
// What Redis would read as a hash tag, what marks an escape or a digest, and what UTF-8 cannot represent.
const SPECIAL = /[%{}#]|\p{Surrogate}/gu;

/** The id of a peer: its name, or the digest of a long name. A digest is longer than any name that is an id. */
export function idOf(key: string): string {
  if (key.length <= LONGEST_NAME) return key;
  return `#${createHash('sha512').update(key, 'utf16le').digest('hex')}`;
}

/** Whether an id is the peer's name, not a digest of it. */
export function isName(id: string): boolean {
  return id.length <= LONGEST_NAME;
}

/** Whether a string can be the id of a peer. */
export function isId(text: string): boolean {
  return isName(text) || DIGEST.test(text);
}

/** The FNV-1a hash of an id: 32 bits, as a signed integer. */
export function hashOf(id: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < id.length; i += 1) {
    hash = Math.imul(hash ^ id.charCodeAt(i), 0x01000193);
  }
  return hash;
}

/** The number of a peer's shard. */
export function shardOf(id: string): number {
  return (hashOf(id) >>> 16) % SHARDS;
}

/** The store's keys of peers under a prefix. */
export class PeerKeys {
  /** What the keys of each shard begin with. */
  readonly #beginnings: readonly string[];

  constructor(prefix: string) {
    this.#beginnings = Array.from({ length: SHARDS }, (_, shard) => `${prefix}{${shard}}`);
  }

  of(id: string): string {
    return (this.#beginnings[shardOf(id)] as string) + textOf(id);
  }
}

/** The store's key for an id in a shard or another group of keys that must be on one server. */
export function storeKey(prefix: string, group: number | string, id: string): string {
  return `${prefix}{${group}}${textOf(id)}`;
}

/** An id as a part of a key. */
function textOf(id: string): string {
  return isName(id) ? escapeName(id) : id;
}

/** A name without what Redis would take for a hash tag. */
export function escapeName(name: string): string {
  if (isPlain(name)) return name;
  return name.replace(SPECIAL, (unit) => `%${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** Whether nothing needs an escape. A regular expression would take as long as the rest of a call. */
function isPlain(name: string): boolean {
  for (let i = 0; i < name.length; i += 1) {
    const unit = name.charCodeAt(i);
    const isSpecial = unit === 35 || unit === 37 || unit === 123 || unit === 125;
    if (isSpecial || (unit & 0xf800) === 0xd800) return false;
  }
  return true;
}
