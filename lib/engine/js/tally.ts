// Tally: what a limiter has decided, and what its bound has cost, since it was made. Twin of
// native/tally.h.

import { BAN_BEGINS, type EngineTally, REFUSED } from '../engine.js';
import { isNothing, type Loss } from './eviction.js';

export class Tally {
  #allowed = 0;
  #delayed = 0;
  #disconnected = 0;
  #bansBegun = 0;
  #evictions = 0;
  #lossyEvictions = 0;
  #refusedNewcomers = 0;

  // Each counts a check that was decided, and returns what a check that can ban answers then.

  allow(): undefined {
    this.#allowed += 1;
    return undefined;
  }

  delay(): typeof REFUSED {
    this.#delayed += 1;
    return REFUSED;
  }

  disconnect(): typeof REFUSED {
    this.#disconnected += 1;
    return REFUSED;
  }

  beginBan(): typeof BAN_BEGINS {
    this.#bansBegun += 1;
    this.#disconnected += 1;
    return BAN_BEGINS;
  }

  refuseNewcomer(): typeof REFUSED {
    this.#refusedNewcomers += 1;
    return this.delay();
  }

  countEviction(loss: Loss): void {
    this.#evictions += 1;
    if (!isNothing(loss)) this.#lossyEvictions += 1;
  }

  totals(): EngineTally {
    return {
      verdicts: {
        allow: this.#allowed,
        delay: this.#delayed,
        disconnect: this.#disconnected,
      },
      bansBegun: this.#bansBegun,
      evictions: this.#evictions,
      lossyEvictions: this.#lossyEvictions,
      refusedNewcomers: this.#refusedNewcomers,
    };
  }
}
