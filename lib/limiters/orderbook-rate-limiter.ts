// OrderbookRateLimiter: one request per interval and peer. Violations lengthen the interval, and in the end start a ban.

import {
  DEFAULT_BAN_DURATION,
  DEFAULT_ORDERBOOK_RATE_INTERVAL,
  DEFAULT_ORDERBOOK_RATE_LIMIT,
  DEFAULT_VIOLATION_BAN_THRESHOLD,
  DEFAULT_VIOLATION_SEVERE_THRESHOLD,
  DEFAULT_VIOLATION_WARNING_THRESHOLD,
} from '../common/constants.js';
import {
  COMMON_OPTIONS,
  commonOptions,
  count,
  nonNegative,
  positive,
  readOptions,
  requireKey,
} from '../common/options.js';
import type { CleanupLimits, LimiterOptions, LimiterTotals, Violator } from '../common/types.js';
import { type OrderbookCore, SLOT_BUFFER } from '../engine/engine.js';
import { LimiterWithBans } from './limiter-with-bans.js';
import { NO_SLOT, PeerHandle } from './peer-handle.js';

/** The options of an `OrderbookRateLimiter`. */
export interface OrderbookRateLimiterOptions extends LimiterOptions {
  /** Accepted but unused, as in the reference: the limit is one request per interval. Greater than 0. Default 1. */
  rateLimit?: number | undefined;
  /** Seconds between two allowed requests of a peer, at least 0. Default 10. */
  interval?: number | undefined;
  /** The number of violations at which the next request starts a ban (0: the first request does). Default 100. */
  violationBanThreshold?: number | undefined;
  /** The number of violations from which the interval is 6 times as long. Default 10. */
  violationWarningThreshold?: number | undefined;
  /** The number of violations from which the interval is 30 times as long. Default 50. */
  violationSevereThreshold?: number | undefined;
  /** The length of a ban in seconds, at least 0. Default 3600. */
  banDuration?: number | undefined;
}

/** The result of `OrderbookRateLimiter.getStatistics`. */
export interface OrderbookStatistics extends LimiterTotals {
  /** The violations of all peers, at most 2^53 - 1. */
  totalViolations: number;
  /** The number of peers with an interval. */
  trackedPeers: number;
  /** The keys of peers with a ban in force, in the order in which the bans began. */
  bannedPeers: string[];
  /** At most ten peers, most violations first; ties in the order of their first violation. */
  topViolators: Violator[];
}

/** A peer's backoff level: which of the thresholds its violations have reached. */
export type BackoffLevel = 'NORMAL' | 'MODERATE' | 'SEVERE' | 'BANNED';

/** A cached handle of a peer. It never goes stale, and needs no closing. */
export interface OrderbookPeer {
  /** The key of the peer. */
  readonly key: string;
  /** Returns what `OrderbookRateLimiter.check` of `key` returns. */
  check(): boolean;
  /** Returns what `OrderbookRateLimiter.banSecondsLeft` of `key` returns. */
  banSecondsLeft(): number;
}

const OPTIONS = [
  'rateLimit',
  'interval',
  'violationBanThreshold',
  'violationWarningThreshold',
  'violationSevereThreshold',
  'banDuration',
  ...COMMON_OPTIONS,
];

/**
 * OrderbookRateLimiter allows one request per interval and peer. Use it for requests that are expensive to answer.
 *
 * Every refusal is a violation. Violations lengthen the interval to 6 times, then to 30 times, and in the end start a
 * ban. A peer's first request is allowed, unless `violationBanThreshold` is 0. Reference: JoinMarket-NG,
 * `maker.rate_limiting`.
 * @example
 * import { OrderbookRateLimiter } from 'relay-limiter';
 *
 * const limiter = new OrderbookRateLimiter({ interval: 10, banDuration: 3600 });
 * if (limiter.check('alice')) console.log('send the orderbook');
 * else if (limiter.isBanned('alice')) console.log('close the connection');
 * else console.log(`ignore the request: backoff level ${limiter.getBackoffLevel('alice')}`);
 */
export class OrderbookRateLimiter extends LimiterWithBans {
  /** @internal */
  declare readonly core: OrderbookCore;
  /** The option `rateLimit`, which is unused. */
  readonly rateLimit: number;
  /** Seconds between two allowed requests of a peer without backoff. */
  readonly interval: number;
  /** The number of violations at which the next request starts a ban. */
  readonly violationBanThreshold: number;
  /** The number of violations from which the interval is 6 times as long. */
  readonly violationWarningThreshold: number;
  /** The number of violations from which the interval is 30 times as long. */
  readonly violationSevereThreshold: number;
  /** The length of a ban in seconds. */
  readonly banDuration: number;

  /**
   * Creates a limiter without peers, or joins a shared table.
   * @throws `ERR_LIMITER_OPTION` for an invalid option, `ERR_LIMITER_ENGINE` if the requested engine is unavailable. With
   * the option `shared`: `ERR_LIMITER_SHARED` if the file cannot be used, or was created with other numbers, and
   * `ERR_LIMITER_MEMORY` if there is not enough memory for it.
   */
  constructor(options?: OrderbookRateLimiterOptions) {
    const given = readOptions('OrderbookRateLimiter', options, OPTIONS);
    const rateLimit = positive(given, 'rateLimit', DEFAULT_ORDERBOOK_RATE_LIMIT);
    const common = commonOptions(given);
    const config = {
      interval: nonNegative(given, 'interval', DEFAULT_ORDERBOOK_RATE_INTERVAL),
      violationBanThreshold: count(given, 'violationBanThreshold', DEFAULT_VIOLATION_BAN_THRESHOLD),
      violationWarningThreshold: count(
        given,
        'violationWarningThreshold',
        DEFAULT_VIOLATION_WARNING_THRESHOLD,
      ),
      violationSevereThreshold: count(
        given,
        'violationSevereThreshold',
        DEFAULT_VIOLATION_SEVERE_THRESHOLD,
      ),
      banDuration: nonNegative(given, 'banDuration', DEFAULT_BAN_DURATION),
      maxPeers: common.maxPeers,
    };
    super('OrderbookRateLimiter', common, config.banDuration, (engine, sharedPath) =>
      engine.orderbook({ ...config, sharedPath }),
    );
    this.rateLimit = rateLimit;
    this.interval = config.interval;
    this.violationBanThreshold = config.violationBanThreshold;
    this.violationWarningThreshold = config.violationWarningThreshold;
    this.violationSevereThreshold = config.violationSevereThreshold;
    this.banDuration = config.banDuration;
  }

  /**
   * Returns whether this request is allowed. A refusal counts a violation, also during a ban. A ban begins with the
   * first request after the violations have reached the threshold. O(1); an allowed check allocates nothing.
   * @throws `ERR_LIMITER_KEY` or `ERR_LIMITER_CLOCK` for invalid input, and then changes nothing;
   * `ERR_LIMITER_MEMORY` if there is no memory for a new peer.
   */
  check(peerNick: string): boolean {
    requireKey(peerNick);
    const now = this.now();
    const refusal = this.core.check(peerNick, now);
    return this.allows(peerNick, refusal);
  }

  /**
   * Returns whether a ban of the peer is in force. Removes an expired ban, including the peer's violations. Never
   * starts a ban: a peer at the threshold is banned by its next request. O(1).
   * @throws `ERR_LIMITER_KEY`, `ERR_LIMITER_CLOCK`.
   */
  isBanned(peerNick: string): boolean {
    requireKey(peerNick);
    return this.core.isBanned(peerNick, this.now());
  }

  /**
   * Returns the peer's backoff level, for logs and statistics. `BANNED` means that the violations have reached
   * `violationBanThreshold`; `isBanned` returns whether a ban is in force. O(1).
   * @throws `ERR_LIMITER_KEY` unless the key is a string.
   */
  getBackoffLevel(peerNick: string): BackoffLevel {
    const violations = this.getViolationCount(peerNick);
    if (violations >= this.violationBanThreshold) return 'BANNED';
    if (violations >= this.violationSevereThreshold) return 'SEVERE';
    if (violations >= this.violationWarningThreshold) return 'MODERATE';
    return 'NORMAL';
  }

  /**
   * Removes the peers without an allowed request for more than `maxAge` seconds (any number but NaN; default 3600),
   * and every expired ban. A ban in force stays, with its violations. A call without a budget visits every peer, O(n).
   * A call with a budget may stop before the end; `isCleaning` is then true.
   * @throws `ERR_LIMITER_OPTION`, `ERR_LIMITER_CLOCK`.
   */
  cleanupOldEntries(maxAge = 3600, limits?: CleanupLimits): void {
    this.cleanup(maxAge, 'maxAge', limits);
  }

  /**
   * Returns counts, all bans, and the peers with the most violations. Changes nothing. O(n log n) for n bans: if bans
   * may be many, use `getOverview` and `getBans` for frequent calls.
   * @throws `ERR_LIMITER_CLOCK`, `ERR_LIMITER_MEMORY`.
   */
  getStatistics(): OrderbookStatistics {
    const banned = this.core.bannedKeys(this.now());
    const { tracked, ...counts } = this.core.statistics();
    return { trackedPeers: tracked, bannedPeers: banned, ...counts };
  }

  /**
   * Returns a cached handle of a peer; it never goes stale. Its methods return what those of the limiter return for its
   * key. The check is faster.
   * @throws `ERR_LIMITER_KEY` unless the key is a string.
   */
  open(peerNick: string): OrderbookPeer {
    requireKey(peerNick);
    return new OrderbookPeerHandle(peerNick, this);
  }
}

class OrderbookPeerHandle extends PeerHandle<OrderbookRateLimiter> implements OrderbookPeer {
  #slot = NO_SLOT;

  check(): boolean {
    const { limiter, key } = this;
    const now = this.beginCheck(this.#slot);
    const refusal = limiter.core.checkPeer(key, now);
    if (SLOT_BUFFER[0] !== this.#slot) this.#slot = this.resolvedSlot();
    return limiter.allows(key, refusal);
  }

  banSecondsLeft(): number {
    return this.limiter.banSecondsLeft(this.key);
  }
}
