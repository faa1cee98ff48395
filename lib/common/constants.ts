// The constants of the reference (JoinMarket-NG 0.37.0), with the same names.

/** The fixed host id of message signatures on onion transports. */
export const DEFAULT_HOSTID = 'onion-network';
/** Orderbook requests per interval; accepted by `OrderbookRateLimiter` and unused, as in the reference. */
export const DEFAULT_ORDERBOOK_RATE_LIMIT = 1;
/** Seconds between two orderbook requests of one peer. */
export const DEFAULT_ORDERBOOK_RATE_INTERVAL = 10;
/** Violations at which the next request starts a ban. */
export const DEFAULT_VIOLATION_BAN_THRESHOLD = 100;
/** Violations from which the interval is six times as long. */
export const DEFAULT_VIOLATION_WARNING_THRESHOLD = 10;
/** Violations from which the interval is thirty times as long. */
export const DEFAULT_VIOLATION_SEVERE_THRESHOLD = 50;
/** The duration of a ban in seconds. */
export const DEFAULT_BAN_DURATION = 3600;
/** The maximum number of peers that a limiter stores. */
export const DEFAULT_MAX_PEERS = 1_000_000;
/** The maximum of `maxPeers` for a table that processes share. */
export const MAX_SHARED_PEERS: number = 2 ** 26;
