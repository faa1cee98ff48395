// DirectConnectionRateLimiter: a message bucket and an orderbook interval for each connection.

import { DEFAULT_BAN_DURATION } from '../common/constants.js';
import {
  COMMON_OPTIONS,
  commonOptions,
  count,
  nonNegative,
  readOptions,
  requireCost,
  requireKey,
} from '../common/options.js';
import type { CleanupLimits, LimiterOptions, LimiterTotals, Violator } from '../common/types.js';
import { type DirectCore, SEAT } from '../engine/engine.js';
import { BanningLimiter } from './banning-limiter.js';
import { type Keyed, PeerGroup } from './group.js';
import { NOWHERE, Opened } from './peer-handle.js';

export interface DirectConnectionRateLimiterOptions extends LimiterOptions {
  /** Messages a second, at least 0. Default 5. */
  messageRatePerSec?: number | undefined;
  /** Most messages at once, at least 0. Default 20. */
  messageBurst?: number | undefined;
  /** Seconds between two orderbook requests that are allowed, at least 0. Default 30. */
  orderbookInterval?: number | undefined;
  /** Orderbook violations that start a ban (0 acts as 1). Default 10. */
  orderbookBanThreshold?: number | undefined;
  /** Seconds a ban lasts, at least 0. Default 3600. */
  banDuration?: number | undefined;
}

export interface DirectConnectionStatistics extends LimiterTotals {
  totalViolations: number;
  /** Connections that have sent messages; those that only asked for the orderbook do not count. */
  trackedConnections: number;
  /** Keys of bans that are not over, in the order the bans began. */
  bannedConnections: string[];
  /** At most ten, most violations first; ties in the order of their first violation. */
  topViolators: Violator[];
}

/** A key with its place remembered: it owns nothing and needs no closing. */
export interface DirectPeer {
  readonly key: string;
  checkMessage(cost?: number): boolean;
  checkOrderbook(): boolean;
  isBanned(): boolean;
}

const OPTIONS = [
  'messageRatePerSec',
  'messageBurst',
  'orderbookInterval',
  'orderbookBanThreshold',
  'banDuration',
  ...COMMON_OPTIONS,
];

/**
 * For direct connections (reference: JoinMarket-NG, `maker.rate_limiting`): a token bucket for all
 * messages, an interval for orderbook requests, a ban for who asks too often. Key it by an id that
 * is never used again, and call `removePeer` when the connection closes.
 */
export class DirectConnectionRateLimiter extends BanningLimiter {
  /** @internal */
  declare readonly core: DirectCore;
  readonly messageRatePerSec: number;
  readonly messageBurst: number;
  readonly orderbookInterval: number;
  readonly orderbookBanThreshold: number;
  readonly banDuration: number;

  /** @throws `ERR_LIMITER_OPTION` for a wrong option, `ERR_LIMITER_ENGINE` where the engine asked for cannot run. */
  constructor(options?: DirectConnectionRateLimiterOptions) {
    const given = readOptions('DirectConnectionRateLimiter', options, OPTIONS);
    const common = commonOptions(given);
    const config = {
      messageRatePerSec: nonNegative(given, 'messageRatePerSec', 5),
      messageBurst: nonNegative(given, 'messageBurst', 20),
      orderbookInterval: nonNegative(given, 'orderbookInterval', 30),
      orderbookBanThreshold: count(given, 'orderbookBanThreshold', 10),
      banDuration: nonNegative(given, 'banDuration', DEFAULT_BAN_DURATION),
      maxPeers: common.maxPeers,
    };
    super('DirectConnectionRateLimiter', common, config.banDuration, (engine) =>
      engine.direct(config),
    );
    this.messageRatePerSec = config.messageRatePerSec;
    this.messageBurst = config.messageBurst;
    this.orderbookInterval = config.orderbookInterval;
    this.orderbookBanThreshold = config.orderbookBanThreshold;
    this.banDuration = config.banDuration;
  }

  /**
   * Whether this message may be processed; takes `cost` tokens (default 1; any finite number of at
   * least 0) if so. A refusal counts no violation and never bans; during a ban everything is
   * refused and nothing counted. O(1); allocates nothing.
   * @throws `ERR_LIMITER_KEY`, `ERR_LIMITER_COST`, `ERR_LIMITER_CLOCK` for bad input, which changes
   * nothing, and `ERR_LIMITER_MEMORY` where a new connection finds no memory.
   */
  checkMessage(connId: string, cost?: number): boolean {
    requireKey(connId);
    if (cost !== undefined) requireCost(cost);
    const now = this.now();
    const refusal = this.core.checkMessage(connId, cost, now);
    return refusal === undefined;
  }

  /**
   * Tokens in the connection's message bucket, as of its last message: time passed since then does not count. A
   * full bucket's for an unknown connection; creates nothing. O(1).
   * @throws `ERR_LIMITER_KEY` unless the key is a string.
   */
  getTokens(connId: string): number {
    requireKey(connId);
    return this.core.tokens(connId);
  }

  /**
   * Whether this orderbook request may be answered. A refusal counts a violation, also during a
   * ban; the one that reaches the threshold starts a ban at once. O(1); allocates nothing when allowed.
   * @throws `ERR_LIMITER_KEY`, `ERR_LIMITER_CLOCK`, `ERR_LIMITER_MEMORY` as `checkMessage` does.
   */
  checkOrderbook(connId: string): boolean {
    requireKey(connId);
    const now = this.now();
    const refusal = this.core.checkOrderbook(connId, now);
    return this.allows(connId, refusal);
  }

  /**
   * Whether a ban is in force. A ban that is over is lifted here, but its violations stay (so in
   * the reference): the next refusal bans again.
   * @throws `ERR_LIMITER_KEY`, `ERR_LIMITER_CLOCK`.
   */
  isBanned(connId: string): boolean {
    requireKey(connId);
    return this.core.isBanned(connId, this.now());
  }

  /**
   * Forgets what is more than `maxAge` seconds old (any number but NaN; default 3600): message
   * buckets by their last message, orderbook requests by the last one allowed; and every ban that
   * is over. A ban in force stays, with its violations. With a budget it may stop before its end, and
   * `isCleaning` is true.
   * @throws `ERR_LIMITER_OPTION`, `ERR_LIMITER_CLOCK`.
   */
  cleanupOldEntries(maxAge = 3600, limits?: CleanupLimits): void {
    this.cleanup(maxAge, 'maxAge', limits);
  }

  /**
   * Counts, all bans and the worst offenders. Reads state, changes none. It names every ban, O(n log n):
   * with many of them `getOverview` and `getBans` are for who asks often.
   * @throws `ERR_LIMITER_CLOCK`, `ERR_LIMITER_MEMORY`.
   */
  getStatistics(): DirectConnectionStatistics {
    const banned = this.core.bannedKeys(this.now());
    const { tracked, ...counts } = this.core.statistics();
    return { trackedConnections: tracked, bannedConnections: banned, ...counts };
  }

  /** A connection with its key bound. @throws `ERR_LIMITER_KEY` unless the key is a string. */
  open(connId: string): DirectPeer {
    requireKey(connId);
    return new OpenedConnection(connId, this);
  }

  /**
   * A group of connections, one `checkMessage` for each in a call: 0 allowed, 1 refused, 2 banned.
   * @throws `ERR_LIMITER_KEY` for a member that has no string key, `ERR_LIMITER_OPTION` for members that are no
   * iterable, or text.
   */
  group(peers: Iterable<string | Keyed> = []): PeerGroup {
    return new PeerGroup(this.core, () => this.now(), peers);
  }
}

/** A connection of a DirectConnectionRateLimiter, its places in the engine remembered. */
class OpenedConnection extends Opened implements DirectPeer {
  #bucketPlace = NOWHERE;
  #timePlace = NOWHERE;
  readonly #limiter: DirectConnectionRateLimiter;

  constructor(key: string, limiter: DirectConnectionRateLimiter) {
    super(key);
    this.#limiter = limiter;
  }

  checkMessage(cost?: number): boolean {
    if (cost !== undefined) requireCost(cost);
    const { core } = this.#limiter;
    const now = this.#limiter.now();
    this.seat(this.#bucketPlace);
    const refusal = core.checkPeer(this.key, cost, now);
    if (SEAT[0] !== this.#bucketPlace) this.#bucketPlace = this.follow();
    return refusal === undefined;
  }

  checkOrderbook(): boolean {
    const { core } = this.#limiter;
    const now = this.#limiter.now();
    this.seat(this.#timePlace);
    const refusal = core.checkPeerOrderbook(this.key, now);
    if (SEAT[0] !== this.#timePlace) this.#timePlace = this.follow();
    return this.#limiter.allows(this.key, refusal);
  }

  isBanned(): boolean {
    return this.#limiter.isBanned(this.key);
  }
}
