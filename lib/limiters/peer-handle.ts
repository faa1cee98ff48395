// What opened peers remember, and how an engine hears of it.

import { copyOf } from '../common/strings.js';
import { SEAT } from '../engine/engine.js';

/** The place of a record that was never looked for. */
export const NOWHERE = -1;

/**
 * A key, and what tells whose record lies at a place: small integers, as places are, which V8 keeps
 * in the object itself. A handle of the engine's would be one object more between the peer and its
 * record, and one more to make and to collect.
 */
export abstract class Opened {
  readonly #key: string;
  #low = 0;
  #high = 0;

  constructor(key: string) {
    this.#key = copyOf(key);
  }

  /** Whose peer it is, for ever: the seat is of no other key. */
  get key(): string {
    return this.#key;
  }

  /** Says where the record was. Nothing may come between this and the check. @internal */
  protected seat(place: number): void {
    SEAT[0] = place;
    SEAT[1] = this.#low;
    SEAT[2] = this.#high;
  }

  /** Where the record is, if the check has found it elsewhere. @internal */
  protected follow(): number {
    this.#low = SEAT[1] as number;
    this.#high = SEAT[2] as number;
    return SEAT[0] as number;
  }
}
