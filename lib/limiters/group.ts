// PeerGroup: many peers, for example the members of a chat room, checked in one call at one instant.

import { invalidValue, limiterError, show } from '../common/errors.js';
import { isRevoked, kindOf } from '../common/kinds.js';
import { requireCost, requireKey } from '../common/options.js';
import { detachString } from '../common/strings.js';
import type { BucketCore, Handle } from '../engine/engine.js';
import { KeyMap } from '../tables/key-map.js';
import { Keys } from '../tables/keys.js';
import { PeerHandle } from './peer-handle.js';

/** An object with a key: what `open` returns. */
export interface Keyed {
  /** The key of the peer. */
  readonly key: string;
}

/**
 * PeerGroup checks many peers in one call, for example the members of a chat room. The method `group` of a limiter
 * creates it. Each peer is a member at most once.
 * @example
 * import { RateLimiter } from 'relay-limiter';
 *
 * const limiter = new RateLimiter({ rateLimit: 10 });
 * const room = limiter.group(['alice', 'bob']);
 * room.add('carol');
 * const verdicts = room.check(); // one byte per member: 0 allow, 1 delay, 2 disconnect
 * for (const [i, key] of [...room.keys()].entries()) console.log(key, verdicts[i]);
 */
export class PeerGroup {
  readonly #core: BucketCore<unknown>;
  readonly #now: () => number | undefined;
  readonly #handle: Handle;
  /** The members in the order of the engine. */
  readonly #keys: string[] = [];
  readonly #ids = new Keys();
  /** The index of each member in `#keys`, by the id that `#ids` gives its key. */
  readonly #indexes = new KeyMap<number>();

  /** @internal */
  constructor(
    core: BucketCore<unknown>,
    now: () => number | undefined,
    peers: Iterable<string | Keyed>,
  ) {
    if (!isIterable(peers)) {
      throw invalidValue('ERR_LIMITER_OPTION', 'the members of a group', peers, 'an iterable');
    }
    this.#core = core;
    this.#now = now;
    this.#handle = core.openGroup();
    for (const peer of peers) this.add(peer);
  }

  /** The number of members. */
  get size(): number {
    return this.#keys.length;
  }

  /**
   * Adds a peer, unless it is a member. O(1).
   * @throws `ERR_LIMITER_KEY` for a peer without a string key, `ERR_LIMITER_MEMORY`, and then changes nothing.
   */
  add(peer: string | Keyed): void {
    const given = keyOf(peer);
    const found = this.#ids.find(given);
    if (this.#indexes.has(found)) return;
    // The key of a peer handle is a copy already.
    const key = peer instanceof PeerHandle ? given : detachString(given);
    const id = found === given ? key : found;
    this.#setIndex(id, this.#keys.length);
    try {
      this.#core.addMember(this.#handle, key);
    } catch (error) {
      this.#indexes.delete(id);
      throw error;
    }
    this.#keys.push(key);
  }

  /**
   * Removes a peer from the group and returns whether it was a member. Its bucket stays. O(1): the last member moves to
   * its index.
   * @throws `ERR_LIMITER_KEY` for a peer without a string key.
   */
  delete(peer: string | Keyed): boolean {
    const key = keyOf(peer);
    const id = this.#ids.find(key);
    const index = this.#indexes.get(id);
    if (index === undefined) return false;
    this.#core.removeMember(this.#handle, index);
    const last = this.#keys.pop() as string;
    this.#indexes.delete(id);
    if (last !== key) {
      this.#keys[index] = last;
      this.#indexes.set(this.#ids.find(last), index);
    }
    return true;
  }

  /** Returns the members' keys in the order of the verdicts: the order of `add`, until `delete` moves a member. */
  keys(): Iterable<string> {
    return this.#keys.values();
  }

  /**
   * Checks every member at one instant for `cost` tokens (default 1; any finite number of at least 0) and writes one
   * byte per member in the order of `keys()`: 0 allow, 1 delay, 2 disconnect. Returns `verdicts`, by default a new
   * array; bytes after the last member keep their values. O(members).
   * @throws `ERR_LIMITER_COST`, `ERR_LIMITER_CLOCK`, or `ERR_LIMITER_OPTION` for an array that is too short, and then
   * checks nothing; `ERR_LIMITER_MEMORY` if there is no memory for a new peer.
   */
  check(cost = 1, verdicts?: Uint8Array): Uint8Array {
    requireCost(cost);
    // The clock comes first: it is the caller's code, and may change the members and the array.
    const now = this.#now();
    const bytes = verdicts === undefined ? new Uint8Array(this.size) : verdicts;
    if (!isBytes(bytes) || bytes.length < this.size) {
      const given = isBytes(bytes) ? `${bytes.length} bytes` : show(bytes);
      const message = `verdicts must be a Uint8Array of at least ${this.size} bytes, got ${given}`;
      throw limiterError(RangeError, 'ERR_LIMITER_OPTION', message);
    }
    this.#core.checkGroup(this.#handle, this.#keys, bytes, cost, now);
    return bytes;
  }

  #setIndex(id: string, index: number): void {
    try {
      this.#indexes.set(id, index);
    } catch (cause) {
      throw limiterError(Error, 'ERR_LIMITER_MEMORY', 'no memory for another member', cause);
    }
  }
}

function isBytes(value: unknown): value is Uint8Array {
  return ArrayBuffer.isView(value) && value instanceof Uint8Array;
}

/** Strings and String objects are iterable too, but their characters are no keys: false. */
function isIterable(value: unknown): value is Iterable<string | Keyed> {
  if (typeof value !== 'object' || value === null || isRevoked(value)) return false;
  const isString = kindOf(value) === 'String';
  return !isString && typeof (value as Partial<Iterable<unknown>>)[Symbol.iterator] === 'function';
}

function keyOf(peer: string | Keyed): string {
  const isKeyed = typeof peer === 'object' && peer !== null && !isRevoked(peer);
  const key = isKeyed ? peer.key : peer;
  requireKey(key);
  return key;
}
