// What users name: actions, results, options. No behaviour.

/** What to do with the message that was checked. */
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
 * The answer of `RateLimiter.check`: what to do, and for DELAY the seconds until the cost asked for
 * is there (0 otherwise; Infinity when the cost exceeds the burst and never can be).
 */
export type CheckResult = readonly [action: RateLimitAction, delaySeconds: number];

/** Which engine keeps the peers: the native addon, or TypeScript. */
export type EngineName = 'native' | 'js';

/** A ban as it begins. */
export interface Ban {
  readonly key: string;
  /** Violations counted up to the ban. */
  readonly violations: number;
  /** How long it lasts, in seconds. */
  readonly banDuration: number;
}

/** Bans that are not over. */
export interface BansInForce {
  /** All of them, also of peers whose key is not kept. */
  count: number;
  /** Those with the longest left, longest first, and the seconds that they have left. */
  bans: [key: string, secondsLeft: number][];
}

/** Options every limiter takes. */
export interface LimiterOptions {
  /**
   * `native` or `js` insist on that engine; `auto` takes native where a binary loads. Default: the
   * environment variable `RELAY_LIMITER_ENGINE`, else `auto`.
   */
  engine?: 'auto' | EngineName | undefined;
  /** Monotonic seconds, read once a call. Default: the engine's own monotonic clock. */
  clock?: (() => number) | undefined;
  /**
   * Most peers of whom anything is kept: an integer of at least 1, or Infinity. Default 1,000,000.
   * Where there are so many, a newcomer takes the place of one that is missed least of a few that are
   * looked at, never of one that is banned; it is refused only if none of 1,024 can go.
   * The TypeScript engine keeps at most 2^23 (8,388,608), whatever is given here: V8's Map takes no more
   * where peers come and go.
   */
  maxPeers?: number | undefined;
  /**
   * Called once as a ban begins, by a check or by `ban`, after that has been decided. What it throws surfaces as
   * an uncaught exception, never in the call. `RateLimiter` bans nobody and never calls it.
   */
  onBan?: ((ban: Ban) => void) | undefined;
  /**
   * Cleans up in the background, so that nobody has to remember it. Default: off. The timer never
   * keeps a process alive; it stops with `close()`, and when the limiter is collected. What `clock`
   * throws in a round surfaces as an uncaught exception; the next round comes all the same. A round runs outside of
   * any caller's async context: `clock` sees no AsyncLocalStorage store there.
   */
  cleanup?: CleanupSchedule | undefined;
}

/** When a limiter cleans up by itself. */
export interface CleanupSchedule {
  /**
   * What has been idle for longer is forgotten, and so is every ban that is over; seconds, greater
   * than 0. Default 3600.
   */
  maxAgeSeconds?: number | undefined;
  /**
   * Seconds from the beginning of one round to that of the next, greater than 0. Default 60. A round
   * takes half a millisecond at a time, V8's garbage collection not counted, with pauses of 15 milliseconds
   * between. All limiters of the process take turns: together they take no more of the processor's time
   * than one does, a thirtieth, and a round of many lasts longer. One that lasts longer than this is not
   * begun twice. More than 24 days are taken for 24.
   */
  everySeconds?: number | undefined;
}

/** Bounds one call of a cleanup. */
export interface CleanupLimits {
  /**
   * Milliseconds after which the call stops, finite and at least 0; the next call with a budget
   * goes on from there. The limiter's `isCleaning` says whether there is more to do. Default: no bound, one whole pass. With millions of peers on the TypeScript
   * engine V8 makes its tables smaller by itself, which takes longer than a budget once in a while.
   */
  budgetMs?: number | undefined;
}

/** A bucket in a snapshot. */
export interface SnapshotBucket {
  /** Tokens as of its last refill. */
  tokens: number;
  /** Seconds since its last refill. */
  idleSeconds: number;
}

/** An offender in a snapshot. */
export interface SnapshotPeer {
  key: string;
  violations: number;
  /** Seconds that its ban has left; null if none is in force. */
  banSecondsLeft: number | null;
  /** Seconds since its last refill or the last orderbook request allowed; null if there was none. */
  idleSeconds: number | null;
  /** Its bucket; null if that is full again within ten seconds, or the limiter has no buckets. */
  bucket: SnapshotBucket | null;
}

/**
 * A peer in a snapshot that is no offender, and whose bucket is not full, or whose interval is not over, within
 * ten seconds. The limiter does not keep such a peer's key, only a digest of it.
 */
export type SnapshotDigest = [
  /** 32 hexadecimal digits. */
  digest: string,
  /** Seconds since the last orderbook request allowed; null if there is nothing to say. */
  idleSeconds: number | null,
  /** Tokens of its bucket as of its last refill; null if there is nothing to say. */
  tokens: number | null,
  /** Seconds since that refill; null if there is nothing to say. */
  bucketIdleSeconds: number | null,
];

/** Peers whose digests were made with one secret. */
export interface SnapshotDigests {
  /** 32 hexadecimal digits. Who knows it can choose keys that collide in the limiter: keep it private. */
  secret: string;
  peers: SnapshotDigest[];
}

/** What a limiter remembers of its peers, as plain values that survive JSON. All times are relative. */
export interface LimiterSnapshot {
  format: 2;
  limiter: LimiterName;
  /** The offenders, in the order in which they offended first. */
  peers: SnapshotPeer[];
  /** The others whose buckets or intervals a restart must not reset. */
  digests: SnapshotDigests[];
}

export type LimiterName = 'RateLimiter' | 'OrderbookRateLimiter' | 'DirectConnectionRateLimiter';

/** What the statistics of every limiter tell, besides counts of peers and offences. */
export interface LimiterTotals {
  /** Peers of whom anything is known: at most `maxPeers`. */
  peers: number;
  /**
   * What all checks so far answered, by key, of opened peers and of groups. Where they answer true or
   * false: true is allow, false disconnect if a ban is in force or begins with it, and else delay.
   */
  verdicts: { allow: number; delay: number; disconnect: number };
  /** Bans that checks began; restored ones and those by `ban` do not count. */
  bansBegun: number;
  /** Peers forgotten to make room for others, where there were `maxPeers`. */
  evictions: number;
  /** Of them those of whom anything was lost: a bucket not full, an interval not over, violations. */
  lossyEvictions: number;
  /** Checks of newcomers refused since nobody could be forgotten for them. */
  refusedNewcomers: number;
  /** Offenders whose key is too long to be kept: punished all the same, and named nowhere. */
  unnamedOffenders: number;
  /** Bytes of the peer tables; absent where the engine does not know (TypeScript). */
  memoryBytes?: number;
}

/** What all limiters tell alike, whatever they limit and however many bans there are. */
export interface LimiterOverview extends LimiterTotals {
  /** Peers with a bucket, or with an interval where a limiter has no buckets. */
  trackedPeers: number;
  /** At most 2^53 - 1, like the violations of each peer. */
  totalViolations: number;
  /** At most ten, most violations first; ties in the order of their first violation. */
  topViolators: Violator[];
}

/** A peer and its violations. */
export type Violator = [key: string, violations: number];

/** A key with its place remembered: it owns nothing and needs no closing. */
export interface Peer<Result = CheckResult> {
  readonly key: string;
  /** Answers what the limiter's own check of `key` would, always. */
  check(cost?: number): Result;
}
