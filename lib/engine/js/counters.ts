// Tally: what a limiter has decided, and what its bound has cost, since it was made. Twin of
// native/limiters/counters.h.

import type { EngineTally } from '../engine.js';
import { isNothing, type Loss } from './eviction.js';

export class Tally {
  // Plain numbers, since a call may find no stack when all else has been done.
  allowed = 0;
  delayed = 0;
  disconnected = 0;
  bansBegun = 0;
  #evictions = 0;
  #lossyEvictions = 0;
  refusedNewcomers = 0;

  countEviction(loss: Loss): void {
    this.#evictions += 1;
    if (!isNothing(loss)) this.#lossyEvictions += 1;
  }

  totals(): EngineTally {
    return {
      verdicts: {
        allow: this.allowed,
        delay: this.delayed,
        disconnect: this.disconnected,
      },
      bansBegun: this.bansBegun,
      evictions: this.#evictions,
      lossyEvictions: this.#lossyEvictions,
      refusedNewcomers: this.refusedNewcomers,
    };
  }
}
