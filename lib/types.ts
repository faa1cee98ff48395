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

/** Options every limiter takes. */
export interface LimiterOptions {
  /**
   * `native` or `js` insist on that engine; `auto` takes native where a binary loads. Default: the
   * environment variable `RELAY_LIMITER_ENGINE`, else `auto`.
   */
  engine?: 'auto' | EngineName | undefined;
  /** Monotonic seconds, read once a call. Default: the engine's own monotonic clock. */
  clock?: (() => number) | undefined;
  /** Most peers kept at once: an integer of at least 1, or Infinity. Default 1,000,000. */
  maxPeers?: number | undefined;
  /**
   * Called once as a ban begins, after the check has been decided. What it throws surfaces as an
   * uncaught exception, never in the check. `RateLimiter` bans nobody and never calls it.
   */
  onBan?: ((ban: Ban) => void) | undefined;
  /**
   * Cleans up in the background, so that nobody has to remember it. Default: off. The timer never
   * keeps a process alive; it stops with `close()`, and when the limiter is collected. What `clock`
   * throws in a round surfaces as an uncaught exception; the next round comes all the same.
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
   * takes about a millisecond at a time, with pauses between; one that lasts longer than this is not
   * begun twice. More than 24 days are taken for 24.
   */
  everySeconds?: number | undefined;
}

/** Bounds one call of a cleanup. */
export interface CleanupLimits {
  /**
   * Milliseconds after which the call stops, finite and at least 0; the next call with a budget
   * goes on from there. Default: no bound, one whole pass. With millions of peers on the TypeScript
   * engine V8 makes its tables smaller by itself, which takes longer than a budget once in a while.
   */
  budgetMs?: number | undefined;
}

/** A peer and its violations. */
export type Violator = [key: string, violations: number];

/** A key with its place remembered: it owns nothing and needs no closing. */
export interface Peer<Result = CheckResult> {
  readonly key: string;
  /** Answers what the limiter's own check of `key` would, always. */
  check(cost?: number): Result;
}
