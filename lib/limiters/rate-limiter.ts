// RateLimiter: one token bucket a peer, a violation for each refusal.

import {
  burst,
  COMMON_OPTIONS,
  commonOptions,
  countOrNull,
  positive,
  readOptions,
  requireCost,
  requireKey,
} from '../common/options.js';
import {
  type CheckResult,
  type CleanupLimits,
  type LimiterOptions,
  type LimiterTotals,
  type Peer,
  RateLimitAction,
  type Violator,
} from '../common/types.js';
import { DISCONNECT, type RateLimiterCore, SEAT } from '../engine/engine.js';
import { type Keyed, PeerGroup } from './group.js';
import { Limiter } from './limiter.js';
import { NOWHERE, Opened } from './peer-handle.js';

export interface RateLimiterOptions extends LimiterOptions {
  /** Tokens a second given to each peer, greater than 0. Default 10. */
  rateLimit?: number | undefined;
  /** Most tokens a peer saves up: at least 1; null or 0 means the default, 10 x rateLimit (but at least 1). */
  burstLimit?: number | null | undefined;
  /** Violations from which a refusal is DISCONNECT (0: from the first on). Default null: never. */
  disconnectThreshold?: number | null | undefined;
}

export interface RateLimiterStats extends LimiterTotals {
  trackedPeers: number;
  totalViolations: number;
  /** At most ten, most violations first; ties in the order of their first violation. */
  topViolators: Violator[];
}

const OPTIONS = ['rateLimit', 'burstLimit', 'disconnectThreshold', ...COMMON_OPTIONS];

// Shared, so that the common answers allocate nothing.
/** @internal */
export const ALLOWED: CheckResult = Object.freeze([RateLimitAction.ALLOW, 0] as const);
/** @internal */
export const DISCONNECTED: CheckResult = Object.freeze([RateLimitAction.DISCONNECT, 0] as const);

/**
 * A token bucket for each peer (reference: JoinMarket-NG, `jmcore.rate_limiter.RateLimiter`).
 *
 * Violations never decrease: a peer over the threshold is still allowed whenever it has a token,
 * and disconnected at each refusal, until `removePeer` or a cleanup forgets it.
 */
export class RateLimiter extends Limiter {
  /** @internal */
  declare readonly core: RateLimiterCore;
  readonly rateLimit: number;
  readonly burstLimit: number;
  readonly disconnectThreshold: number | null;

  /** @throws `ERR_LIMITER_OPTION` for a wrong option, `ERR_LIMITER_ENGINE` where the engine asked for cannot run. */
  constructor(options?: RateLimiterOptions) {
    const given = readOptions('RateLimiter', options, OPTIONS);
    const rateLimit = positive(given, 'rateLimit', 10);
    const tenSeconds = Math.min(Math.max(1, rateLimit * 10), Number.MAX_VALUE);
    const burstLimit = burst(given, 'burstLimit', tenSeconds);
    const disconnectThreshold = countOrNull(given, 'disconnectThreshold');
    const common = commonOptions(given);
    const { maxPeers } = common;
    super('RateLimiter', common, 0, (engine) =>
      engine.rateLimiter({ rateLimit, burstLimit, disconnectThreshold, maxPeers }),
    );
    this.rateLimit = rateLimit;
    this.burstLimit = burstLimit;
    this.disconnectThreshold = disconnectThreshold;
  }

  /**
   * Takes `cost` tokens (default 1; any finite number of at least 0) from the peer's bucket, made
   * full if it has none. ALLOW takes them; DELAY and DISCONNECT take nothing and count a violation.
   * Waiting the recommended delay to the last digit may fall short by a rounding error (1e-7 of a
   * token): round up. O(1); allocates nothing when allowed.
   * @throws `ERR_LIMITER_KEY`, `ERR_LIMITER_COST`, `ERR_LIMITER_CLOCK` for bad input, which changes
   * nothing, and `ERR_LIMITER_MEMORY` where a new peer finds no memory.
   */
  check(peerKey: string, cost?: number): CheckResult {
    requireKey(peerKey);
    if (cost !== undefined) requireCost(cost);
    const now = this.now();
    const verdict = this.core.check(peerKey, cost, now);
    // No call from here on: it might find no stack, and the check is counted.
    if (verdict === undefined) return ALLOWED;
    return verdict === DISCONNECT ? DISCONNECTED : [RateLimitAction.DELAY, verdict];
  }

  /**
   * Seconds until the peer has one token, as of its last check: time passed since then does not
   * count (so in the reference). 0 for an unknown peer.
   * @throws `ERR_LIMITER_KEY` unless the key is a string.
   */
  getDelayForPeer(peerKey: string): number {
    requireKey(peerKey);
    return this.core.delay(peerKey);
  }

  /**
   * Tokens in the peer's bucket, as of its last check: time passed since then does not count. A
   * full bucket's for an unknown peer; creates nothing. O(1).
   * @throws `ERR_LIMITER_KEY` unless the key is a string.
   */
  getTokens(peerKey: string): number {
    requireKey(peerKey);
    return this.core.tokens(peerKey);
  }

  /**
   * Removes the peers not checked for more than `maxIdleSeconds` (any number but NaN; default
   * 3600), with their violations, and returns how many. Without a budget it visits every peer; with one it may stop
   * before that, and `isCleaning` is true.
   * @throws `ERR_LIMITER_OPTION`, `ERR_LIMITER_CLOCK`.
   */
  cleanupOldPeers(maxIdleSeconds = 3600, limits?: CleanupLimits): number {
    return this.cleanup(maxIdleSeconds, 'maxIdleSeconds', limits);
  }

  /** Counts and the worst offenders. Reads state, changes none. */
  getStats(): RateLimiterStats {
    return this.getOverview();
  }

  /** A peer with its key bound. @throws `ERR_LIMITER_KEY` unless the key is a string. */
  open(peerKey: string): Peer {
    requireKey(peerKey);
    return new OpenedPeer(peerKey, this);
  }

  /**
   * A group of peers, checked in one call. @throws `ERR_LIMITER_KEY` for a member that is none,
   * `ERR_LIMITER_OPTION` for members that are no iterable, or text.
   */
  group(peers: Iterable<string | Keyed> = []): PeerGroup {
    return new PeerGroup(this.core, () => this.now(), peers);
  }
}

class OpenedPeer extends Opened implements Peer {
  #place = NOWHERE;
  readonly #limiter: RateLimiter;

  constructor(key: string, limiter: RateLimiter) {
    super(key);
    this.#limiter = limiter;
  }

  check(cost?: number): CheckResult {
    if (cost !== undefined) requireCost(cost);
    const now = this.#limiter.now();
    this.seat(this.#place);
    const { core } = this.#limiter;
    const verdict = core.checkPeer(this.key, cost, now);
    if (SEAT[0] !== this.#place) this.#place = this.follow();
    // No call from here on: it might find no stack, and the check is counted.
    if (verdict === undefined) return ALLOWED;
    return verdict === DISCONNECT ? DISCONNECTED : [RateLimitAction.DELAY, verdict];
  }
}
