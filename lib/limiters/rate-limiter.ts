// RateLimiter: one token bucket per peer, and one violation per refused check.

import * as results from '../common/check-results.js';
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
import { DISCONNECT, type RateLimiterCore, SLOT_BUFFER } from '../engine/engine.js';
import { delaySeconds } from '../tables/arithmetic.js';
import { type Keyed, PeerGroup } from './group.js';
import { Limiter } from './limiter.js';
import { NO_SLOT, PeerHandle } from './peer-handle.js';

/** The options of a `RateLimiter`. */
export interface RateLimiterOptions extends LimiterOptions {
  /** Tokens per second that each peer gets, greater than 0. Default 10. */
  rateLimit?: number | undefined;
  /** The most tokens that a peer can save up, at least 1. Default, also for null and 0: 10 x rateLimit, at least 1. */
  burstLimit?: number | null | undefined;
  /** The number of violations from which a refusal is DISCONNECT (0: from the first on). Default null: never. */
  disconnectThreshold?: number | null | undefined;
}

/** The result of `RateLimiter.getStats`. */
export interface RateLimiterStats extends LimiterTotals {
  /** The number of peers with a bucket. */
  trackedPeers: number;
  /** The violations of all peers, at most 2^53 - 1. */
  totalViolations: number;
  /** At most ten peers, most violations first; ties in the order of their first violation. */
  topViolators: Violator[];
}

/** The result of `RateLimiter.peek`. */
export interface RateLimiterPeek {
  /** The result that a check would have. */
  readonly verdict: CheckResult;
  /** The tokens of a full bucket: `burstLimit`. */
  readonly limit: number;
  /** The tokens in the bucket, fractions included. */
  readonly remaining: number;
  /** Seconds until the bucket is full if nothing is taken; 0 if it is full. */
  readonly resetSeconds: number;
}

/** A cached handle of a peer of a `RateLimiter`. It never goes stale, and needs no closing. */
export interface RateLimiterPeer extends Peer {
  /** Returns what `RateLimiter.peek` of `key` returns. */
  peek(cost?: number): RateLimiterPeek;
}

// Constants of this module: bundlers read an imported name by a getter, and at the end of the stack a call of that getter
// would lose the verdict of a check that is counted already.
const { ALLOWED, DISCONNECTED } = results;

const OPTIONS = ['rateLimit', 'burstLimit', 'disconnectThreshold', ...COMMON_OPTIONS];

/**
 * RateLimiter limits each peer with a token bucket of its own. Use it for messages or requests that peers may send in
 * bursts.
 *
 * Violations never decrease. A peer at `disconnectThreshold` is still allowed if it has tokens, and each of its
 * refusals is DISCONNECT, until `removePeer` or a cleanup removes the peer. Reference: JoinMarket-NG,
 * `jmcore.rate_limiter.RateLimiter`.
 * @example
 * import { RateLimitAction, RateLimiter } from 'relay-limiter';
 *
 * const limiter = new RateLimiter({ rateLimit: 10, burstLimit: 100, disconnectThreshold: 500 });
 * const [action, delaySeconds] = limiter.check('203.0.113.7');
 * if (action === RateLimitAction.ALLOW) console.log('process the message');
 * else if (action === RateLimitAction.DELAY) console.log(`try again in ${delaySeconds} seconds`);
 * else console.log('close the connection');
 */
export class RateLimiter extends Limiter {
  /** @internal */
  declare readonly core: RateLimiterCore;
  /** Tokens per second that each peer gets. */
  readonly rateLimit: number;
  /** The most tokens that a peer can save up. */
  readonly burstLimit: number;
  /** The number of violations from which a refusal is DISCONNECT; null: never. */
  readonly disconnectThreshold: number | null;

  /**
   * Creates a limiter without peers, or joins a shared table.
   * @throws `ERR_LIMITER_OPTION` for an invalid option, `ERR_LIMITER_ENGINE` if the requested engine is unavailable. With
   * the option `shared`: `ERR_LIMITER_SHARED` if the file cannot be used, or was created with other numbers, and
   * `ERR_LIMITER_MEMORY` if there is not enough memory for it.
   */
  constructor(options?: RateLimiterOptions) {
    const given = readOptions('RateLimiter', options, OPTIONS);
    const rateLimit = positive(given, 'rateLimit', 10);
    const tenSeconds = Math.min(Math.max(1, rateLimit * 10), Number.MAX_VALUE);
    const burstLimit = burst(given, 'burstLimit', tenSeconds);
    const disconnectThreshold = countOrNull(given, 'disconnectThreshold');
    const common = commonOptions(given);
    const { maxPeers } = common;
    super('RateLimiter', common, 0, (engine, sharedPath) =>
      engine.rateLimiter({ rateLimit, burstLimit, disconnectThreshold, maxPeers, sharedPath }),
    );
    this.rateLimit = rateLimit;
    this.burstLimit = burstLimit;
    this.disconnectThreshold = disconnectThreshold;
  }

  /**
   * Takes `cost` tokens (default 1; any finite number of at least 0) from the peer's bucket. An unknown peer gets a
   * full bucket.
   *
   * ALLOW takes the tokens. DELAY and DISCONNECT take nothing and count a violation. DELAY comes with the seconds
   * until the bucket holds `cost` tokens, Infinity if `cost` exceeds `burstLimit`. A check after exactly this delay
   * may be short of tokens by a rounding error (1e-7 of a token): round the delay up. O(1); an allowed check allocates
   * nothing.
   * @throws `ERR_LIMITER_KEY`, `ERR_LIMITER_COST` or `ERR_LIMITER_CLOCK` for invalid input, and then changes nothing;
   * `ERR_LIMITER_MEMORY` if there is no memory for a new peer.
   */
  check(peerKey: string, cost?: number): CheckResult {
    requireKey(peerKey);
    if (cost !== undefined) requireCost(cost);
    const now = this.now();
    const verdict = this.core.check(peerKey, cost, now);
    // The check is counted: a call from here on could overflow the stack and lose the verdict.
    if (verdict === undefined) return ALLOWED;
    return verdict === DISCONNECT ? DISCONNECTED : [RateLimitAction.DELAY, verdict];
  }

  /**
   * Returns the result of a check of `cost` tokens (default 1) at this moment, and the state of the peer's bucket.
   * Changes and counts nothing: an unknown peer, which has a full bucket, stays unknown. Use it to show a quota, or to
   * ask before expensive work; `check` takes the tokens. O(1).
   * @throws `ERR_LIMITER_KEY`, `ERR_LIMITER_COST` or `ERR_LIMITER_CLOCK` for invalid input.
   * @example
   * import { RateLimiter } from 'relay-limiter';
   *
   * const limiter = new RateLimiter({ rateLimit: 10, burstLimit: 100 });
   * limiter.check('alice', 40);
   * const { verdict, limit, remaining, resetSeconds } = limiter.peek('alice', 70);
   * console.log(verdict[0], `${Math.floor(remaining)} of ${limit}`); // delay 60 of 100
   * console.log(`full in ${Math.ceil(resetSeconds)} seconds`); // full in 4 seconds
   */
  peek(peerKey: string, cost = 1): RateLimiterPeek {
    requireKey(peerKey);
    requireCost(cost);
    const remaining = this.core.refilledTokens(peerKey, this.now());
    const { rateLimit, burstLimit } = this;
    return {
      verdict: remaining >= cost ? ALLOWED : this.#refusal(peerKey, cost, remaining),
      limit: burstLimit,
      remaining,
      resetSeconds: (burstLimit - remaining) / rateLimit,
    };
  }

  /** The result of a check that would be refused, and would count a violation. */
  #refusal(peerKey: string, cost: number, tokens: number): CheckResult {
    const { rateLimit, burstLimit, disconnectThreshold } = this;
    const isLast =
      disconnectThreshold !== null && this.core.violations(peerKey) + 1 >= disconnectThreshold;
    if (isLast) return DISCONNECTED;
    return [RateLimitAction.DELAY, delaySeconds(tokens, cost, rateLimit, burstLimit)];
  }

  /**
   * Returns the seconds until the peer has one token, as of its last check; 0 for an unknown peer. Time that has
   * passed since that check does not count, as in the reference. O(1).
   * @throws `ERR_LIMITER_KEY` unless the key is a string.
   */
  getDelayForPeer(peerKey: string): number {
    requireKey(peerKey);
    return this.core.delay(peerKey);
  }

  /**
   * Returns the tokens in the peer's bucket as of its last check; `burstLimit` for an unknown peer, which stays
   * unknown. Time that has passed since that check does not count. O(1).
   * @throws `ERR_LIMITER_KEY` unless the key is a string.
   */
  getTokens(peerKey: string): number {
    requireKey(peerKey);
    return this.core.tokens(peerKey);
  }

  /**
   * Removes the peers without a check for more than `maxIdleSeconds` (any number but NaN; default 3600), including
   * their violations, and returns how many it removed. A call without a budget visits every peer, O(n). A call with a
   * budget may stop before the end; `isCleaning` is then true.
   * @throws `ERR_LIMITER_OPTION`, `ERR_LIMITER_CLOCK`.
   */
  cleanupOldPeers(maxIdleSeconds = 3600, limits?: CleanupLimits): number {
    return this.cleanup(maxIdleSeconds, 'maxIdleSeconds', limits);
  }

  /** Returns counts and the peers with the most violations. Changes nothing. Cost: as `getOverview`. */
  getStats(): RateLimiterStats {
    return this.getOverview();
  }

  /**
   * Returns a cached handle of a peer; it never goes stale. Its methods return what those of the limiter return for its
   * key. The check is faster.
   * @throws `ERR_LIMITER_KEY` unless the key is a string.
   */
  open(peerKey: string): RateLimiterPeer {
    requireKey(peerKey);
    return new RateLimiterPeerHandle(peerKey, this);
  }

  /**
   * Returns a group of peers that one call checks. Default: no members.
   * @throws `ERR_LIMITER_KEY` for a member without a string key, `ERR_LIMITER_OPTION` if `peers` is a string or not
   * iterable.
   */
  group(peers: Iterable<string | Keyed> = []): PeerGroup {
    return new PeerGroup(this.core, () => this.now(), peers);
  }
}

class RateLimiterPeerHandle extends PeerHandle<RateLimiter> implements RateLimiterPeer {
  #slot = NO_SLOT;

  check(cost?: number): CheckResult {
    if (cost !== undefined) requireCost(cost);
    const now = this.beginCheck(this.#slot);
    const verdict = this.limiter.core.checkPeer(this.key, cost, now);
    if (SLOT_BUFFER[0] !== this.#slot) this.#slot = this.resolvedSlot();
    // The check is counted: a call from here on could overflow the stack and lose the verdict.
    if (verdict === undefined) return ALLOWED;
    return verdict === DISCONNECT ? DISCONNECTED : [RateLimitAction.DELAY, verdict];
  }
  peek(cost?: number): RateLimiterPeek {
    return this.limiter.peek(this.key, cost);
  }
}
