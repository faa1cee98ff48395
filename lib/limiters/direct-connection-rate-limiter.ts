// DirectConnectionRateLimiter: one message bucket and one orderbook interval per connection.

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
import { type DirectCore, SLOT_BUFFER } from '../engine/engine.js';
import { type Keyed, PeerGroup } from './group.js';
import { LimiterWithBans } from './limiter-with-bans.js';
import { NO_SLOT, PeerHandle } from './peer-handle.js';

/** The options of a `DirectConnectionRateLimiter`. */
export interface DirectConnectionRateLimiterOptions extends LimiterOptions {
  /** Tokens per second for messages, at least 0. A message costs one token by default. Default 5. */
  messageRatePerSec?: number | undefined;
  /** The most tokens that a connection can save up, at least 0. Default 20. */
  messageBurst?: number | undefined;
  /** Seconds between two allowed orderbook requests of a connection, at least 0. Default 30. */
  orderbookInterval?: number | undefined;
  /** The number of orderbook violations that starts a ban (0 acts as 1). Default 10. */
  orderbookBanThreshold?: number | undefined;
  /** The length of a ban in seconds, at least 0. Default 3600. */
  banDuration?: number | undefined;
}

/** The result of `DirectConnectionRateLimiter.getStatistics`. */
export interface DirectConnectionStatistics extends LimiterTotals {
  /** The orderbook violations of all connections, at most 2^53 - 1. */
  totalViolations: number;
  /** The number of connections that have sent messages. Connections with orderbook requests only do not count. */
  trackedConnections: number;
  /** The keys of connections with a ban in force, in the order in which the bans began. */
  bannedConnections: string[];
  /** At most ten connections, most violations first; ties in the order of their first violation. */
  topViolators: Violator[];
}

/** A cached handle of a connection. It never goes stale, and needs no closing. */
export interface DirectPeer {
  /** The key of the connection. */
  readonly key: string;
  /** Returns what `DirectConnectionRateLimiter.checkMessage` of `key` returns. */
  checkMessage(cost?: number): boolean;
  /** Returns what `DirectConnectionRateLimiter.checkOrderbook` of `key` returns. */
  checkOrderbook(): boolean;
  /** Returns what `DirectConnectionRateLimiter.isBanned` of `key` returns. */
  isBanned(): boolean;
  /** Returns what `DirectConnectionRateLimiter.banSecondsLeft` of `key` returns. */
  banSecondsLeft(): number;
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
 * DirectConnectionRateLimiter limits the messages of each connection with a token bucket, and its orderbook requests to
 * one per interval. Too many orderbook requests start a ban.
 *
 * Use a connection id as the key, never use an id twice, and call `removePeer` if the connection closes. Reference:
 * JoinMarket-NG, `maker.rate_limiting`.
 * @example
 * import { DirectConnectionRateLimiter } from 'relay-limiter';
 *
 * const limiter = new DirectConnectionRateLimiter({ messageRatePerSec: 5, messageBurst: 20 });
 * if (limiter.checkMessage('connection 1')) console.log('process the message');
 * if (limiter.checkOrderbook('connection 1')) console.log('send the orderbook');
 * limiter.removePeer('connection 1'); // the connection has closed
 */
export class DirectConnectionRateLimiter extends LimiterWithBans {
  /** @internal */
  declare readonly core: DirectCore;
  /** Tokens per second that each connection gets for messages. */
  readonly messageRatePerSec: number;
  /** The most tokens that a connection can save up. */
  readonly messageBurst: number;
  /** Seconds between two allowed orderbook requests of a connection. */
  readonly orderbookInterval: number;
  /** The number of orderbook violations that starts a ban (0 acts as 1). */
  readonly orderbookBanThreshold: number;
  /** The length of a ban in seconds. */
  readonly banDuration: number;

  /**
   * Creates a limiter without connections, or joins a shared table.
   * @throws `ERR_LIMITER_OPTION` for an invalid option, `ERR_LIMITER_ENGINE` if the requested engine is unavailable. With
   * the option `shared`: `ERR_LIMITER_SHARED` if the file cannot be used, or was created with other numbers, and
   * `ERR_LIMITER_MEMORY` if there is not enough memory for it.
   */
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
    super('DirectConnectionRateLimiter', common, config.banDuration, (engine, sharedPath) =>
      engine.direct({ ...config, sharedPath }),
    );
    this.messageRatePerSec = config.messageRatePerSec;
    this.messageBurst = config.messageBurst;
    this.orderbookInterval = config.orderbookInterval;
    this.orderbookBanThreshold = config.orderbookBanThreshold;
    this.banDuration = config.banDuration;
  }

  /**
   * Returns whether this message is allowed. An allowed message takes `cost` tokens (default 1; any finite number of
   * at least 0). A refusal takes nothing, counts no violation and never starts a ban. During a ban all messages are
   * refused. O(1); allocates nothing.
   * @throws `ERR_LIMITER_KEY`, `ERR_LIMITER_COST` or `ERR_LIMITER_CLOCK` for invalid input, and then changes nothing;
   * `ERR_LIMITER_MEMORY` if there is no memory for a new connection.
   */
  checkMessage(connId: string, cost?: number): boolean {
    requireKey(connId);
    if (cost !== undefined) requireCost(cost);
    const now = this.now();
    const refusal = this.core.checkMessage(connId, cost, now);
    return refusal === undefined;
  }

  /**
   * Returns the tokens in the connection's message bucket as of its last message; `messageBurst` for an unknown
   * connection, which stays unknown. Time that has passed since that message does not count. O(1).
   * @throws `ERR_LIMITER_KEY` unless the key is a string.
   */
  getTokens(connId: string): number {
    requireKey(connId);
    return this.core.tokens(connId);
  }

  /**
   * Returns whether this orderbook request is allowed. A refusal counts a violation, also during a ban. The refusal
   * that reaches the threshold starts a ban at once. O(1); an allowed check allocates nothing.
   * @throws `ERR_LIMITER_KEY` or `ERR_LIMITER_CLOCK` for invalid input, and then changes nothing;
   * `ERR_LIMITER_MEMORY` if there is no memory for a new connection.
   */
  checkOrderbook(connId: string): boolean {
    requireKey(connId);
    const now = this.now();
    const refusal = this.core.checkOrderbook(connId, now);
    return this.allows(connId, refusal);
  }

  /**
   * Returns whether a ban of the connection is in force. Removes an expired ban but not the connection's violations,
   * as in the reference: the next refused orderbook request starts a new ban. O(1).
   * @throws `ERR_LIMITER_KEY`, `ERR_LIMITER_CLOCK`.
   */
  isBanned(connId: string): boolean {
    requireKey(connId);
    return this.core.isBanned(connId, this.now());
  }

  /**
   * Removes message buckets without a message, and orderbook intervals without an allowed request, for more than
   * `maxAge` seconds (any number but NaN; default 3600), and every expired ban. A ban in force stays, with its
   * violations. A call without a budget visits every connection, O(n). A call with a budget may stop before the end;
   * `isCleaning` is then true.
   * @throws `ERR_LIMITER_OPTION`, `ERR_LIMITER_CLOCK`.
   */
  cleanupOldEntries(maxAge = 3600, limits?: CleanupLimits): void {
    this.cleanup(maxAge, 'maxAge', limits);
  }

  /**
   * Returns counts, all bans, and the connections with the most violations. Changes nothing. O(n log n) for n bans: if
   * bans may be many, use `getOverview` and `getBans` for frequent calls.
   * @throws `ERR_LIMITER_CLOCK`, `ERR_LIMITER_MEMORY`.
   */
  getStatistics(): DirectConnectionStatistics {
    const banned = this.core.bannedKeys(this.now());
    const { tracked, ...counts } = this.core.statistics();
    return { trackedConnections: tracked, bannedConnections: banned, ...counts };
  }

  /**
   * Returns a cached handle of a connection; it never goes stale. Its methods return what those of the limiter return
   * for its key. The checks are faster.
   * @throws `ERR_LIMITER_KEY` unless the key is a string.
   */
  open(connId: string): DirectPeer {
    requireKey(connId);
    return new DirectPeerHandle(connId, this);
  }

  /**
   * Returns a group of connections. Its `check` does one `checkMessage` per member: the verdict is 0 for an allowed
   * message, 1 for a refused one, 2 for a banned connection. Default: no members.
   * @throws `ERR_LIMITER_KEY` for a member without a string key, `ERR_LIMITER_OPTION` if `peers` is a string or not
   * iterable.
   */
  group(peers: Iterable<string | Keyed> = []): PeerGroup {
    return new PeerGroup(this.core, () => this.now(), peers);
  }
}

class DirectPeerHandle extends PeerHandle<DirectConnectionRateLimiter> implements DirectPeer {
  #bucketSlot = NO_SLOT;
  #requestSlot = NO_SLOT;

  checkMessage(cost?: number): boolean {
    if (cost !== undefined) requireCost(cost);
    const now = this.beginCheck(this.#bucketSlot);
    const refusal = this.limiter.core.checkPeer(this.key, cost, now);
    if (SLOT_BUFFER[0] !== this.#bucketSlot) this.#bucketSlot = this.resolvedSlot();
    return refusal === undefined;
  }

  checkOrderbook(): boolean {
    const { limiter, key } = this;
    const now = this.beginCheck(this.#requestSlot);
    const refusal = limiter.core.checkPeerOrderbook(key, now);
    if (SLOT_BUFFER[0] !== this.#requestSlot) this.#requestSlot = this.resolvedSlot();
    return limiter.allows(key, refusal);
  }

  isBanned(): boolean {
    return this.limiter.isBanned(this.key);
  }

  banSecondsLeft(): number {
    return this.limiter.banSecondsLeft(this.key);
  }
}
