// PeerGroup: a room, a channel: many peers checked in one call, at one instant.

import { limiterError, refused } from '../common/errors.js';
import { isRevoked, kindOf } from '../common/kinds.js';
import { requireCost, requireKey } from '../common/options.js';
import { copyOf } from '../common/strings.js';
import type { BucketCore, Handle } from '../engine/engine.js';
import { KeyMap } from '../tables/key-map.js';
import { Keys } from '../tables/keys.js';
import { PeerHandle } from './peer-handle.js';

/** Anything with a key: what `open` returns. */
export interface Keyed {
  readonly key: string;
}

/** Peers checked together: made by the `group` method of a limiter. A member counts once. */
export class PeerGroup {
  readonly #core: BucketCore<unknown>;
  readonly #now: () => number | undefined;
  readonly #handle: Handle;
  // Members, in the order of the engine's, and where each is, by what stands for its key in the engine's tables.
  readonly #keys: string[] = [];
  readonly #ids = new Keys();
  readonly #places = new KeyMap<number>();

  /** @internal */
  constructor(
    core: BucketCore<unknown>,
    now: () => number | undefined,
    peers: Iterable<string | Keyed>,
  ) {
    if (!isIterable(peers)) {
      throw refused('ERR_LIMITER_OPTION', 'the members of a group', peers, 'an iterable');
    }
    this.#core = core;
    this.#now = now;
    this.#handle = core.openGroup();
    for (const peer of peers) this.add(peer);
  }

  /** How many members there are. */
  get size(): number {
    return this.#keys.length;
  }

  /**
   * Adds a member, unless it is one. O(1).
   * @throws `ERR_LIMITER_KEY` for what has no string key, `ERR_LIMITER_MEMORY`; then nothing changed.
   */
  add(peer: string | Keyed): void {
    const given = keyOf(peer);
    const found = this.#ids.find(given);
    if (this.#places.has(found)) return;
    // An opened peer's is a copy, and in the table as well.
    const key = peer instanceof PeerHandle ? given : copyOf(given);
    const id = found === given ? key : found;
    this.#remember(id, this.#keys.length);
    try {
      this.#core.addMember(this.#handle, key);
    } catch (error) {
      this.#places.delete(id);
      throw error;
    }
    this.#keys.push(key);
  }

  /**
   * Takes a member out, true if it was one; its bucket stays. O(1): the last member takes its place.
   * @throws `ERR_LIMITER_KEY` for what has no string key.
   */
  delete(peer: string | Keyed): boolean {
    const key = keyOf(peer);
    const id = this.#ids.find(key);
    const place = this.#places.get(id);
    if (place === undefined) return false;
    this.#core.removeMember(this.#handle, place);
    const last = this.#keys.pop() as string;
    this.#places.delete(id);
    if (last !== key) {
      this.#keys[place] = last;
      this.#places.set(this.#ids.find(last), place);
    }
    return true;
  }

  /** The members' keys, in the order of the verdicts: as they were added, until one is deleted. */
  keys(): Iterable<string> {
    return this.#keys.values();
  }

  /**
   * Checks every member at one instant for `cost` (default 1) and writes a byte for each in the
   * order of `keys()`: 0 allow, 1 delay, 2 disconnect. Returns `verdicts`, or a new array where
   * none is given; bytes past the last member stay as they are. O(members).
   * @throws `ERR_LIMITER_COST`, `ERR_LIMITER_CLOCK`, and `ERR_LIMITER_OPTION` for too short an array:
   * then nothing was checked. `ERR_LIMITER_MEMORY` where a new peer finds no memory.
   */
  check(cost = 1, verdicts?: Uint8Array): Uint8Array {
    requireCost(cost);
    // The clock first: it is the caller's code, and may change members and array.
    const now = this.#now();
    const bytes = verdicts === undefined ? new Uint8Array(this.size) : verdicts;
    if (!isBytes(bytes) || bytes.length < this.size) {
      const message = `verdicts must be a Uint8Array of at least ${this.size} bytes`;
      throw limiterError(RangeError, 'ERR_LIMITER_OPTION', message);
    }
    this.#core.checkGroup(this.#handle, this.#keys, bytes, cost, now);
    return bytes;
  }

  #remember(id: string, place: number): void {
    try {
      this.#places.set(id, place);
    } catch (cause) {
      throw limiterError(Error, 'ERR_LIMITER_MEMORY', 'no memory for one more member', cause);
    }
  }
}

function isBytes(value: unknown): value is Uint8Array {
  return ArrayBuffer.isView(value) && value instanceof Uint8Array;
}

/** A string can be walked through as well, also one that is an object, and its letters are nobody's keys. */
function isIterable(value: unknown): value is Iterable<string | Keyed> {
  if (typeof value !== 'object' || value === null || isRevoked(value)) return false;
  const isText = kindOf(value) === 'String';
  return !isText && typeof (value as Partial<Iterable<unknown>>)[Symbol.iterator] === 'function';
}

function keyOf(peer: string | Keyed): string {
  const isKeyed = typeof peer === 'object' && peer !== null && !isRevoked(peer);
  const key = isKeyed ? peer.key : peer;
  requireKey(key);
  return key;
}
