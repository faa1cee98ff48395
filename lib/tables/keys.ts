// Keys as the TypeScript engine's tables keep them, so that none holds more than its own few units:
// a short one as a copy, a long one as an alias. Knows no table.
//
//   key of at most 128 units    looked up as it is, kept as a copy of it
//   longer                      looked up and kept as an alias of 129 units: SipHash, 128 bits, under
//                               a secret of one's own, and padding
//
// An alias is longer than any short key, so it is none. Two keys have the same one with a probability
// of 2^-128. It is not only for memory: V8 hashes a string of more than some 16,000 units by its
// length alone, so in a Map all keys of 64 KiB and one length would meet in one chain, and whoever
// chooses keys could make each look-up walk through all.

import { detachString } from '../common/strings.js';
import { digestOf } from './siphash.js';

/** The longest key that is kept as it is. */
export const MOST_UNITS = 128;
/** Where in an alias the sixteen bytes of the hash begin. */
export const HASH_AT = 1;

export class Keys {
  // Made with the first long key: most limiters never see one.
  #secret: Uint32Array | undefined;
  #secretVersion = 0;

  /** What a table knows the key by. O(1) for a short key; a long one is hashed, O(length). */
  find(key: string): string {
    return key.length <= MOST_UNITS ? key : this.#aliasOf(key);
  }

  /** Four words: nobody outside can choose keys whose digests collide. */
  get secret(): Uint32Array {
    this.#secret ??= globalThis.crypto.getRandomValues(new Uint32Array(4));
    return this.#secret;
  }

  /** Takes over a secret. Only while no table knows anybody by an alias. */
  adopt(secret: Uint32Array): void {
    this.#secret = secret;
    this.#secretVersion += 1;
  }

  /** Another one whenever a secret was taken over: aliases from before are nobody's. */
  get secretVersion(): number {
    return this.#secretVersion;
  }

  /** The digest of the key that `find` returned this for, in four words, low ones first. */
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

/** What a table keeps of what `find` returned, where it is new there. */
export function keep(found: string): string {
  return found.length <= MOST_UNITS ? detachString(found) : found;
}

/**
 * A byte per unit, which is half the memory: those of the hash, and padding before and behind them. It begins with
 * none that a KeyMap would have to mark.
 */
const alias: number[] = new Array(MOST_UNITS + 1).fill(1);

function wordsOfAlias(found: string): number[] {
  const byte = (i: number) => found.charCodeAt(HASH_AT + i) << (8 * (i & 3));
  const word = (i: number) => (byte(i) | byte(i + 1) | byte(i + 2) | byte(i + 3)) >>> 0;
  return [word(0), word(4), word(8), word(12)];
}
