// What each peer may do: every limit of the relay, and what breaking it leads to. Knows keys
// (connection, nick, address), no sockets.
//
// An attacker gets a new nick for nothing and a new connection for little; an address costs more.
// So work is limited by connection, which no change of nick escapes; the order book by nick as
// well, which no reconnecting escapes; and who is expelled again and again is banned by address.

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

/** What to do with a message: process it, drop it and say so, or expel its sender. */
export type Verdict =
  | { readonly action: typeof RateLimitAction.ALLOW }
  | {
      readonly action: typeof RateLimitAction.DELAY | typeof RateLimitAction.DISCONNECT;
      readonly reason: string;
    };

export interface Guard {
  /** The engine that keeps its limits. */
  readonly engine: EngineName | 'none';
  /** The clock of its limits; undefined: the limiters' own. */
  readonly clock?: LimiterOptions['clock'];
  /** For what is not read yet: connections, and frames of any kind. */
  readonly limits: WebSocketGuardOptions;
  /** A message that could not be understood. */
  malformed(connection: string): Verdict;
  privateMessage(connection: string): Verdict;
  orderbook(connection: string, nick: string): Verdict;
  /** The connection is closed, whoever closed it. */
  closed(connection: string): void;
  /** Once a second or so: forgets what no longer matters. */
  sweep(): void;
  counts(): GuardCounts;
}

export interface GuardCounts {
  /** Connections the limiters hold anything about. */
  tracked: number;
  /** Bans begun: of connections, nicks and addresses. */
  bans: number;
}

/** Seconds between two order books for one peer; who waits that long is never refused. */
export const ORDERBOOK_INTERVAL = 2;
/** Seconds an address stays banned. */
export const ADDRESS_BAN = 600;
/** Violations after which a connection is expelled. They never decrease while it lasts. */
const EXPEL_AT = 100;

const ALLOW: Verdict = { action: RateLimitAction.ALLOW };
const drop = (reason: string): Verdict => ({ action: RateLimitAction.DELAY, reason });
const expel = (reason: string): Verdict => ({ action: RateLimitAction.DISCONNECT, reason });

export class LimitingGuard implements Guard {
  readonly engine: EngineName;
  readonly clock: LimiterOptions['clock'];
  readonly limits: WebSocketGuardOptions;
  /** All of its limiters, to be watched. */
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
    // One expulsion a minute is forgiven, and one more: peers share addresses. The next one bans.
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
    // A cost above the burst is never there: it takes nothing and counts one violation.
    const [action] = this.#messages.check(connection, this.#messages.burstLimit + 1);
    return action === RateLimitAction.ALLOW
      ? ALLOW
      : { action, reason: 'too many malformed messages' };
  }

  privateMessage(connection: string): Verdict {
    return this.#direct.checkMessage(connection) ? ALLOW : drop('too many private messages');
  }

  orderbook(connection: string, nick: string): Verdict {
    // The connection first, so that nobody fills the table of nicks with names made up.
    if (!this.#direct.checkOrderbook(connection)) {
      return refusedOrderbook(this.#direct.isBanned(connection));
    }
    return this.#nicks.check(nick) ? ALLOW : refusedOrderbook(this.#nicks.isBanned(nick));
  }

  closed(connection: string): void {
    this.#direct.removePeer(connection);
  }

  sweep(): void {
    // What is kept by nick and by address outlives connections, or reconnecting would wash it off.
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

/** A relay without limits, to compare with. */
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
