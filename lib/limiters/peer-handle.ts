// PeerHandle: the base of the peers that `open()` returns. A handle caches the slot in which the engine last found the
// peer's record, so most checks need no lookup by key. An outdated slot is harmless: the engine then looks up the key.

import { detachString } from '../common/strings.js';
import { SLOT_BUFFER } from '../engine/engine.js';
import type { Limiter } from './limiter.js';

/** The cached slot before the first check. */
export const NO_SLOT = -1;

/**
 * A key, its limiter, and two words that identify the record in the cached slot. Slots and words are small integers,
 * which V8 stores in the object itself. A handle made by the engine would be one more object to allocate, collect and
 * follow on the path to the record. Subclasses cache the slots, as a limiter may have two tables.
 */
export abstract class PeerHandle<OwnLimiter extends Limiter> {
  readonly #key: string;
  readonly #limiter: OwnLimiter;
  #low = 0;
  #high = 0;

  constructor(key: string, limiter: OwnLimiter) {
    this.#key = detachString(key);
    this.#limiter = limiter;
  }

  /** The key of the peer. Read-only: the cached slot is valid for this key only. */
  get key(): string {
    return this.#key;
  }

  /** @internal */
  protected get limiter(): OwnLimiter {
    return this.#limiter;
  }

  /**
   * Reads the limiter's clock, then passes the cached slot to the engine. The engine's check must follow at once: any
   * other check overwrites the shared buffer. Returns the time. @internal
   */
  protected beginCheck(slot: number): number | undefined {
    const now = this.#limiter.now();
    SLOT_BUFFER[0] = slot;
    SLOT_BUFFER[1] = this.#low;
    SLOT_BUFFER[2] = this.#high;
    return now;
  }

  /** Returns the slot in which the check found the record, to be cached by the caller. @internal */
  protected resolvedSlot(): number {
    this.#low = SLOT_BUFFER[1] as number;
    this.#high = SLOT_BUFFER[2] as number;
    return SLOT_BUFFER[0] as number;
  }
}
