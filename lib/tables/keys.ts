// Keys converts a peer's key to the string under which the TypeScript engine's tables store it, so that no stored key
// takes more than about 129 code units.
//
//   key of at most 128 units    looked up as it is, stored as a copy
//   longer key                  looked up and stored as an alias of 129 units: SipHash, 128 bits, with a
//                               secret per limiter, and padding
//
// An alias is longer than any short key, so it never equals one. Two keys have the same alias with a probability of
// 2^-128. Aliases do not only save memory: V8 hashes a string of more than about 16,000 units only by its length. So in
// a Map all keys of 64 KiB and the same length would end up in one chain, and an attacker who chooses keys could make
// each look-up visit all of them.

import { detachString } from '../common/strings.js';
import { digestOf } from './siphash.js';

/** The length of the longest key that is stored as it is. */
export const MOST_UNITS = 128;
/** The index in an alias at which the 16 bytes of the hash begin. */
const HASH_AT = 1;

export class Keys {
  // Created with the first long key or snapshot, because most limiters never need it.
  #secret: Uint32Array | undefined;
  #secretVersion = 0;

  /** The string by which a table knows the key. O(1) for a short key; a long one is hashed, O(length). */
  find(key: string): string {
    return key.length <= MOST_UNITS ? key : this.#aliasOf(key);
  }

  /** Four random words. Without them an attacker cannot choose keys with colliding digests. */
  get secret(): Uint32Array {
    this.#secret ??= globalThis.crypto.getRandomValues(new Uint32Array(4));
    return this.#secret;
  }

  /** Adopts a secret. Call this only if no table contains an alias. */
  adopt(secret: Uint32Array): void {
    this.#secret = secret;
    this.#secretVersion += 1;
  }

  /** Changes when a secret is adopted: aliases from before are invalid then. */
  get secretVersion(): number {
    return this.#secretVersion;
  }

  /** The digest of a key in four words, low words first. `found` is what find() returned for the key. */
  digestOf(found: string): ArrayLike<number> {
    return found.length <= MOST_UNITS ? digestOf(found, this.secret) : wordsOfAlias(found);
  }

  #aliasOf(key: string): string {
    const words = digestOf(key, this.secret);
    for (let i = 0; i < 16; i += 1) {
      alias[HASH_AT + i] = ((words[i >> 2] as number) >>> (8 * (i & 3))) & 0xff;
    }
    return String.fromCharCode.apply(null, alias);
  }
}

/** The string that a table stores for a new record. `found` is what find() returned for the key. */
export function keep(found: string): string {
  return found.length <= MOST_UNITS ? detachString(found) : found;
}

/**
 * The units of an alias: the bytes of the hash with padding before and behind them. One byte per unit halves the
 * memory. The first unit is one that a KeyMap need not mark.
 */
const alias: number[] = new Array(MOST_UNITS + 1).fill(1);

/** One of the four words of the hash in an alias, as a signed integer. */
export function wordOfAlias(found: string, index: number): number {
  const at = HASH_AT + 4 * index;
  const low = found.charCodeAt(at) | (found.charCodeAt(at + 1) << 8);
  return low | (found.charCodeAt(at + 2) << 16) | (found.charCodeAt(at + 3) << 24);
}

function wordsOfAlias(found: string): number[] {
  return [0, 1, 2, 3].map((index) => wordOfAlias(found, index) >>> 0);
}
