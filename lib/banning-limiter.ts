// What the two facades that ban share.

import type { BanningCore } from './engine/engine.js';
import { Limiter } from './limiter.js';
import { requireMost } from './options.js';
import type { BansInForce } from './types.js';

export abstract class BanningLimiter<Core extends BanningCore> extends Limiter<Core> {
  /**
   * How many bans are in force, and the `most` (default 100; a whole number of at least 0) of them that
   * have the longest left, longest first. Reads state, changes none. One pass over the bans, O(n log most)
   * at worst, that names no others: `getStatistics` names all.
   * @throws `ERR_LIMITER_OPTION`, `ERR_LIMITER_CLOCK`, `ERR_LIMITER_MEMORY`.
   */
  getBans(most = 100): BansInForce {
    requireMost(most);
    return this.core.longestBans(most, this.now());
  }
}
