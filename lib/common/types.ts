// The public types: actions, results and options. This file has no behaviour.

/** What to do with a checked message. */
export const RateLimitAction = {
  /** Within the limit: process it. */
  ALLOW: 'allow',
  /** Over the limit: drop it, or wait for the recommended delay and check again. */
  DELAY: 'delay',
  /** The peer reached `disconnectThreshold`: close its connection. */
  DISCONNECT: 'disconnect',
} as const;

export type RateLimitAction = (typeof RateLimitAction)[keyof typeof RateLimitAction];

/**
 * The result of `RateLimiter.check`: what to do, and for DELAY the seconds until the bucket has enough tokens (Infinity
 * if the cost exceeds the burst). The delay of other actions is 0.
 */
export type CheckResult = readonly [action: RateLimitAction, delaySeconds: number];

/** The engine that stores the peers: the native addon, or TypeScript. */
export type EngineName = 'native' | 'js';

/** A ban as it begins. */
export interface Ban {
  readonly key: string;
  /** Violations counted up to the ban. */
  readonly violations: number;
  /** The duration of the ban in seconds. */
  readonly banDuration: number;
}

/** The bans that are not over. */
export interface BansInForce {
  /** The number of all bans in force, including those of peers without a stored key. */
  count: number;
  /** The bans with the longest remaining time, longest first, and their remaining seconds. */
  bans: [key: string, secondsLeft: number][];
}

/** The options of every limiter. */
export interface LimiterOptions {
  /**
   * `native` and `js` throw if that engine is unavailable; `auto` is native if a binary loads, else js. Default: the
   * environment variable `RELAY_LIMITER_ENGINE`, else `auto`.
   */
  engine?: 'auto' | EngineName | undefined;
  /** Returns monotonic seconds; read once per call. Default: the engine's own monotonic clock. */
  clock?: (() => number) | undefined;
  /**
   * The maximum number of peers stored: an integer of at least 1, or Infinity. Default 1,000,000. If there are so many,
   * a new peer replaces another one. Of 16 random peers it replaces the first in this order: a peer in its initial
   * state; the clean peer closest to it; the offender with the fewest violations, least recently active first. A banned
   * peer is never replaced. A new peer is refused only if none of 1,024 peers can be replaced.
   * The TypeScript engine stores at most 2^23 (8,388,608) peers, whatever this option says: V8's Map takes no more if
   * peers are added and removed.
   */
  maxPeers?: number | undefined;
  /**
   * Keeps the peers in memory that all processes and worker threads of this machine share, under this name: up to 64
   * letters, digits, `.`, `_` and `-`, the first no `.`; or an absolute path. The first limiter creates the file, the
   * others join, up to 1,024 of them at a time; all must have the same class, numbers and `maxPeers` (at most 2^26);
   * `update` of a `RuleLimiter` changes the rules of all. Only the native engine has shared tables, and they have no
   * `clock`.
   *
   * A check never fails because of another process. Other calls throw `ERR_LIMITER_SHARED` while a process is stopped in
   * the part of the table that they need, and all calls do once this limiter has left the table.
   *
   * Default: a table of this limiter's own. See docs/one-machine.md.
   */
  shared?: string | undefined;
  /**
   * Called once when a ban begins, by a check or by `ban`, after the decision. An error that it throws becomes an
   * uncaught exception and does not reach the caller. `RateLimiter` has no bans and never calls it.
   */
  onBan?: ((ban: Ban) => void) | undefined;
  /**
   * Cleans up in the background, so that the application need not call `cleanup`. Default: off. The timer never keeps a
   * process alive; it stops with `close()`, and when the limiter is garbage-collected. An error that `clock` throws in
   * a round becomes an uncaught exception, and the next round runs as planned. A round runs outside of any caller's
   * async context: `clock` has no AsyncLocalStorage store there.
   */
  cleanup?: CleanupSchedule | undefined;
}

/** A limiter that is attached to a shared table. */
export interface AttachedLimiter {
  /** The id of its process, as that process sees it: containers may have ids of their own. */
  readonly pid: number;
  /** When it joined, in milliseconds since 1970. */
  readonly since: number;
}

/** The table of a limiter with the option `shared`. */
export interface SharedTable {
  /** The option `shared`. */
  readonly name: string;
  /** The absolute path of the file. */
  readonly path: string;
  /** When the file was created, in milliseconds since 1970. */
  readonly createdAt: number;
  /** The number of limiters that share the table, this one included, in all processes and worker threads. */
  readonly attached: number;
  /** These limiters, in no particular order. */
  readonly limiters: readonly AttachedLimiter[];
  /**
   * Whether new limiters of this name get another table: the file was removed or replaced, or this limiter has left it.
   * Restart the process to join the new one.
   */
  readonly detached: boolean;
}

/** The schedule of a background cleanup. */
export interface CleanupSchedule {
  /**
   * A round removes records that have been idle for more seconds than this, and every ban that is over. Greater than 0.
   * Default 3600.
   */
  maxAgeSeconds?: number | undefined;
  /**
   * Seconds from the beginning of one round to the beginning of the next, greater than 0. Default 60. A round runs in
   * slices of half a millisecond, without V8's garbage collection, with pauses of 15 milliseconds. All limiters of the
   * process take turns: together they use no more processor time than one does, a thirtieth, so with many limiters a
   * round takes longer. If a round takes longer than this interval, no second one begins meanwhile. The maximum is 24
   * days; a higher value counts as 24 days.
   */
  everySeconds?: number | undefined;
}

/** The limits of one call of a cleanup. */
export interface CleanupLimits {
  /**
   * Milliseconds after which the call stops, finite and at least 0; the next call with a budget resumes there. The
   * limiter's `isCleaning` says whether the pass is incomplete. Default: no limit, one whole pass. With millions of
   * peers on the TypeScript engine a call may occasionally exceed its budget, while V8 shrinks its Maps.
   */
  budgetMs?: number | undefined;
}

/** A bucket in a snapshot. */
export interface SnapshotBucket {
  /** The tokens at the last refill. */
  tokens: number;
  /** Seconds since the last refill. */
  idleSeconds: number;
}

/** An offender in a snapshot. */
export interface SnapshotPeer {
  key: string;
  violations: number;
  /** The remaining seconds of its ban; null if none is in force. */
  banSecondsLeft: number | null;
  /** Seconds since its last refill or its last allowed orderbook request; null if there was none. */
  idleSeconds: number | null;
  /** Its bucket; null if that is full within ten seconds, or if the limiter has no buckets. */
  bucket: SnapshotBucket | null;
}

/**
 * A peer in a snapshot that is no offender, with a bucket that is not full, or an interval that is not over, within ten
 * seconds. The limiter does not store the key of such a peer, only a digest of it.
 */
export type SnapshotDigest = [
  /** 32 hexadecimal digits. */
  digest: string,
  /** Seconds since the last allowed orderbook request; null if this entry has no such time. */
  idleSeconds: number | null,
  /** The tokens of its bucket at the last refill; null if this entry has no bucket. */
  tokens: number | null,
  /** Seconds since that refill; null if `tokens` is null. */
  bucketIdleSeconds: number | null,
];

/** Peers with digests that were made with one secret. */
export interface SnapshotDigests {
  /** 32 hexadecimal digits. Keep it private: with it an attacker can choose keys that collide in the limiter. */
  secret: string;
  peers: SnapshotDigest[];
}

/** The state of a limiter as plain values that JSON preserves. All times are relative. */
export interface LimiterSnapshot {
  format: 2;
  limiter: LimiterName;
  /** The offenders, in the order of their first violations. */
  peers: SnapshotPeer[];
  /** The other peers with buckets or intervals that a restart must not reset. */
  digests: SnapshotDigests[];
}

/** The limiters with one kind of key, by the names of their classes. */
export type LimiterName = 'RateLimiter' | 'OrderbookRateLimiter' | 'DirectConnectionRateLimiter';

/** The part of the statistics that all limiters have in common. */
export interface LimiterTotals {
  /** The number of stored peers, at most `maxPeers`. */
  peers: number;
  /**
   * The verdicts of all checks so far: by key, of opened peers and of groups. For checks that return a boolean, true
   * counts as allow. False counts as disconnect if a ban is in force or begins with the check, and as delay otherwise.
   */
  verdicts: { allow: number; delay: number; disconnect: number };
  /** Bans that checks began, without restored bans and those by `ban`. */
  bansBegun: number;
  /** Peers that were removed for a new one because there were `maxPeers`. */
  evictions: number;
  /** Evictions that lost something: a bucket not full, an interval not over, or violations. */
  lossyEvictions: number;
  /** Checks of new peers that were refused because no peer could be evicted. */
  refusedNewcomers: number;
  /** Offenders with a key too long to be stored: punished like others, but listed nowhere. */
  unnamedOffenders: number;
  /** Bytes of the peer tables; absent with the TypeScript engine, which does not know them. */
  memoryBytes?: number;
}

/** The statistics that all limiters have in common. They list no bans, so their size is bounded. */
export interface LimiterOverview extends LimiterTotals {
  /** Peers with a bucket, or with an interval in a limiter without buckets. */
  trackedPeers: number;
  /** At most 2^53 - 1, like the violations of each peer. */
  totalViolations: number;
  /** At most ten, most violations first; ties in the order of their first violation. */
  topViolators: Violator[];
}

/** A peer and its violations. */
export type Violator = [key: string, violations: number];

/** A cached peer handle; it never goes stale, owns no resources and need not be closed. */
export interface Peer<Result = CheckResult> {
  readonly key: string;
  /** Checks the peer, with the same result as the limiter's own check of `key`. */
  check(cost?: number): Result;
}
