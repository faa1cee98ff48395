// All limits of the relay, and the consequences of breaking them. This file works with keys (connection, nick, address)
// and not with sockets.
//
// For an attacker a new nick is free, a new connection is cheap, and a new address costs more. So work is limited by
// connection, because a new nick does not reset that limit. The order book is also limited by nick, because a new
// connection does not reset that limit. A peer that is expelled repeatedly is banned by address.

import {
  DirectConnectionRateLimiter,
  type EngineName,
  type LimiterOptions,
  OrderbookRateLimiter,
  RateLimitAction,
  RateLimiter,
} from 'relay-limiter';
import type { NamedLimiters } from 'relay-limiter/dashboard';
import type { WebSocketGuardOptions } from 'relay-limiter/ws';

/** What to do with a message: process it, drop it and notify its sender, or expel its sender. */
export type Verdict =
  | { readonly action: typeof RateLimitAction.ALLOW }
  | {
      readonly action: typeof RateLimitAction.DELAY | typeof RateLimitAction.DISCONNECT;
      readonly reason: string;
    };

export interface Guard {
  /** The engine of the limiters. */
  readonly engine: EngineName | 'none';
  /** The clock of the limiters; undefined: their default. */
  readonly clock?: LimiterOptions['clock'];
  /** The limits of the WebSocket guard: new connections, and frames before they are parsed. */
  readonly limits: WebSocketGuardOptions;
  /** A message that could not be understood. */
  malformed(connection: string): Verdict;
  privateMessage(connection: string): Verdict;
  orderbook(connection: string, nick: string): Verdict;
  /** Called when a connection is closed, by either side. */
  closed(connection: string): void;
  /** Removes idle peers; called about once per second. */
  sweep(): void;
  counts(): GuardCounts;
}

export interface GuardCounts {
  /** Connections that the limiters store. */
  tracked: number;
  /** Bans begun: of connections, nicks and addresses. */
  bans: number;
}

/** Seconds between two order books for one peer; after that time a request is always allowed. */
export const ORDERBOOK_INTERVAL = 2;
/** Seconds an address stays banned. */
export const ADDRESS_BAN = 600;
/** Violations after which a connection is expelled. They never decrease during a connection. */
const EXPEL_AT = 100;

const ALLOW: Verdict = { action: RateLimitAction.ALLOW };
const drop = (reason: string): Verdict => ({ action: RateLimitAction.DELAY, reason });
const expel = (reason: string): Verdict => ({ action: RateLimitAction.DISCONNECT, reason });

export class LimitingGuard implements Guard {
  readonly engine: EngineName;
  readonly clock: LimiterOptions['clock'];
  readonly limits: WebSocketGuardOptions;
  /** All limiters of the guard, for the dashboard. */
  readonly limiters: NamedLimiters;
  readonly #connects: RateLimiter;
  readonly #expulsions: OrderbookRateLimiter;
  readonly #messages: RateLimiter;
  readonly #direct: DirectConnectionRateLimiter;
  readonly #nicks: OrderbookRateLimiter;
  #bans = 0;

  constructor({ engine, clock }: Pick<LimiterOptions, 'engine' | 'clock'> = {}) {
    const common = { engine, clock };
    const options = { ...common, onBan: () => this.#bans++ };
    this.clock = clock;

    // By address.
    this.#connects = new RateLimiter({ rateLimit: 10, burstLimit: 20, ...common });
    // One expulsion per minute is allowed, and one more, because several peers may share an address. The next one bans it.
    this.#expulsions = new OrderbookRateLimiter({
      interval: 60,
      violationBanThreshold: 1,
      banDuration: ADDRESS_BAN,
      ...options,
    });

    // By connection.
    this.#messages = new RateLimiter({
      rateLimit: 20,
      burstLimit: 60,
      disconnectThreshold: EXPEL_AT,
      ...common,
    });
    this.#direct = new DirectConnectionRateLimiter({
      messageRatePerSec: 5,
      messageBurst: 20,
      orderbookInterval: ORDERBOOK_INTERVAL,
      orderbookBanThreshold: 10,
      ...options,
    });

    // By nick.
    this.#nicks = new OrderbookRateLimiter({ interval: ORDERBOOK_INTERVAL, ...options });

    this.engine = this.#messages.engine;
    this.limits = {
      connections: { limiter: this.#connects },
      messages: { limiter: this.#messages },
      expulsions: this.#expulsions,
    };
    this.limiters = {
      messages: this.#messages,
      'order books': this.#direct,
      nicks: this.#nicks,
      connects: this.#connects,
      expulsions: this.#expulsions,
    };
  }

  malformed(connection: string): Verdict {
    // A cost above the burst is always refused: it takes no tokens and counts one violation.
    const [action] = this.#messages.check(connection, this.#messages.burstLimit + 1);
    return action === RateLimitAction.ALLOW
      ? ALLOW
      : { action, reason: 'too many malformed messages' };
  }

  privateMessage(connection: string): Verdict {
    return this.#direct.checkMessage(connection) ? ALLOW : drop('too many private messages');
  }

  orderbook(connection: string, nick: string): Verdict {
    // The connection is checked first, so that an attacker cannot fill the table of nicks with invented ones.
    if (!this.#direct.checkOrderbook(connection)) {
      return refusedOrderbook(this.#direct.isBanned(connection));
    }
    return this.#nicks.check(nick) ? ALLOW : refusedOrderbook(this.#nicks.isBanned(nick));
  }

  closed(connection: string): void {
    this.#direct.removePeer(connection);
  }

  sweep(): void {
    // Records of nicks and addresses outlive connections; otherwise a reconnection would reset them.
    const budget = { budgetMs: 2 };
    this.#connects.cleanupOldPeers(60, budget);
    this.#expulsions.cleanupOldEntries(ADDRESS_BAN, budget);
    this.#nicks.cleanupOldEntries(ADDRESS_BAN, budget);
  }

  counts(): GuardCounts {
    const messages = this.#messages.getOverview().trackedPeers;
    const direct = this.#direct.getOverview().trackedPeers;
    return { tracked: messages + direct, bans: this.#bans };
  }
}

function refusedOrderbook(banned: boolean): Verdict {
  return banned
    ? expel('banned for too many !orderbook requests')
    : drop(`one !orderbook every ${ORDERBOOK_INTERVAL} seconds`);
}

/** A guard without limits, for comparison. */
export const NO_GUARD: Guard = {
  engine: 'none',
  limits: {},
  malformed: () => ALLOW,
  privateMessage: () => ALLOW,
  orderbook: () => ALLOW,
  closed: () => {},
  sweep: () => {},
  counts: () => ({ tracked: 0, bans: 0 }),
};
