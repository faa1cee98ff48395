// Counters counts a limiter's verdicts and evictions since the limiter was created. Counterpart of
// native/limiters/counters.h.

import type { EngineCounters } from '../engine.js';
import { type EvictionCost, isZero } from './eviction-cost.js';

export class Counters {
  // Checks write these fields directly: near the end of the stack a call to a method may throw after everything else
  // is done.
  allowed = 0;
  delayed = 0;
  disconnected = 0;
  bansBegun = 0;
  #evictions = 0;
  /** Evictions that lost something: the evicted peer was not in its initial state. */
  #lossyEvictions = 0;
  refusedNewcomers = 0;

  countEviction(cost: EvictionCost): void {
    this.#evictions += 1;
    if (!isZero(cost)) this.#lossyEvictions += 1;
  }

  totals(): EngineCounters {
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
