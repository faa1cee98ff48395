// PeerGroup: a room, a channel: many peers checked in one call, at one instant.

import type { GroupCore } from './engine/engine.js';
import { limiterError, refused } from './errors.js';
import { requireCost, requireKey } from './options.js';

/** Anything with a key: what `open` returns. */
export interface Keyed {
  readonly key: string;
}

/** Peers checked together: made by the `group` method of a limiter. A member counts once. */
export class PeerGroup {
  readonly #core: GroupCore;
  readonly #now: () => number | undefined;
  readonly #members = new Set<string>();
  // The members as the engine reads them; undefined when a change has made them stale.
  #list: readonly string[] | undefined;

  /** @internal */
  constructor(core: GroupCore, now: () => number | undefined, peers: Iterable<string | Keyed>) {
    this.#core = core;
    this.#now = now;
    // A string can be walked through as well, and its letters are nobody's keys.
    if (typeof peers !== 'object' || peers === null || !(Symbol.iterator in peers)) {
      throw refused('ERR_LIMITER_OPTION', 'the members of a group', peers, 'an iterable');
    }
    for (const peer of peers) this.add(peer);
  }

  /** How many members there are. */
  get size(): number {
    return this.#members.size;
  }

  /** Adds a member at the end, unless it is one. @throws `ERR_LIMITER_KEY` for what has no string key. */
  add(peer: string | Keyed): void {
    this.#members.add(keyOf(peer));
    this.#list = undefined;
  }

  /** Takes a member out, true if it was one; its bucket stays. @throws `ERR_LIMITER_KEY`. */
  delete(peer: string | Keyed): boolean {
    this.#list = undefined;
    return this.#members.delete(keyOf(peer));
  }

  /** The members' keys, in the order they were added. */
  keys(): Iterable<string> {
    return this.#members.keys();
  }

  /**
   * Checks every member at one instant for `cost` (default 1) and writes a byte for each in the
   * order of `keys()`: 0 allow, 1 delay, 2 disconnect. Returns `verdicts`, or a new array where
   * none is given; bytes past the last member stay as they are. O(members).
   * @throws `ERR_LIMITER_COST`, `ERR_LIMITER_CLOCK`, and `ERR_LIMITER_OPTION` for too short an array:
   * then nothing was checked. `ERR_LIMITER_MEMORY` where a new peer finds no memory.
   */
  check(cost = 1, verdicts: Uint8Array = new Uint8Array(this.size)): Uint8Array {
    requireCost(cost);
    // The clock first: it is the caller's code, and may change members and array.
    const now = this.#now();
    if (!isBytes(verdicts) || verdicts.length < this.size) {
      const message = `verdicts must be a Uint8Array of at least ${this.size} bytes`;
      throw limiterError(RangeError, 'ERR_LIMITER_OPTION', message);
    }
    this.#list ??= [...this.#members];
    this.#core.checkAll(this.#list, verdicts, cost, now);
    return verdicts;
  }
}

function isBytes(value: unknown): value is Uint8Array {
  return ArrayBuffer.isView(value) && value instanceof Uint8Array;
}

function keyOf(peer: string | Keyed): string {
  const key = typeof peer === 'object' && peer !== null ? peer.key : peer;
  requireKey(key);
  return key;
}
