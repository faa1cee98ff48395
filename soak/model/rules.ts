// The three limiters as SPEC says they answer: for one peer, what is known of it and a question, the
// answer and what is known afterwards. Written for reading, not for speed.

import { type Known, NEVER, NOTHING, orNothing, secondsBetween } from './known.js';

/** What is asked of a limiter about one peer. */
export type Question =
  | { readonly ask: 'tokens'; readonly cost: number }
  | { readonly ask: 'orderbook' }
  | { readonly ask: 'ban' };

export interface Outcome {
  readonly known: Known | undefined;
  /**
   * `RateLimiter`: 0, the seconds to wait, or DISCONNECT. The others: ALLOWED, REFUSED, BAN_BEGINS.
   * Of a ban: whether there is one.
   */
  readonly answer: number | boolean;
  /** The byte of a group's check, and what is counted: 0 allow, 1 delay, 2 disconnect. */
  readonly verdict: number;
}

export const DISCONNECT = -1;
export const ALLOWED = 0;
export const REFUSED = 1;
export const BAN_BEGINS = 2;

/** One peer of one limiter, as it is configured. */
export interface Rules {
  /** Undefined: this limiter has no bans. */
  readonly banDuration: number | undefined;
  answer(known: Known | undefined, question: Question, now: number): Outcome;
  /** The passes of a cleanup; a budget may end it after any of them. */
  cleanup(maxAge: number): readonly ((known: Known, now: number) => Known | undefined)[];
  /** Whether forgetting this changes no answer from now on. */
  isFresh(known: Known, now: number): boolean;
  /** As of its last check, of limiters that tell; undefined: a peer nothing is known of. */
  tokens?(known: Known | undefined): number;
  /** Seconds until it has one token, the same way. */
  delay?(known: Known | undefined): number;
  /** What a restored offender is known by. */
  restored(peer: SnapshotEntry, now: number): Known;
  /** The same backwards; undefined: a snapshot does not name it. */
  snapshot(known: Known, now: number): Omit<SnapshotEntry, 'key'> | undefined;
  /** What a snapshot keeps, under a digest, of a peer that it does not name. */
  saved(known: Known, now: number): Known | undefined;
  /** What is left of that after a cleanup: what is as a fresh peer's goes. */
  awaited(known: Known, now: number): Known | undefined;
}

export interface SnapshotEntry {
  readonly key: string;
  readonly violations: number;
  readonly banSecondsLeft: number | null;
  readonly idleSeconds: number | null;
  readonly bucket: { readonly tokens: number; readonly idleSeconds: number } | null;
}

/** What is as a fresh peer's within so many seconds is in no snapshot. */
const SNAPSHOT_SECONDS = 10;

export interface BucketOptions {
  readonly rate: number;
  readonly burst: number;
}

/** A bucket that was last refilled at one time, refilled at another. */
function refilled(known: Known, now: number, { rate, burst }: BucketOptions): number {
  if (known.tokens === undefined) return burst;
  const tokens = known.tokens + secondsBetween(known.refilledAt, now) * rate;
  return tokens < burst ? tokens : burst;
}

function secondsUntilFull(known: Known, now: number, options: BucketOptions): number {
  if (known.tokens === undefined) return 0;
  const tokens = known.tokens + secondsBetween(known.refilledAt, now) * options.rate;
  const missing = options.burst - tokens;
  return missing > 0 ? missing / options.rate : 0;
}

/** What a snapshot says of a bucket. */
function savedBucket(known: Known, now: number, options: BucketOptions) {
  if (known.tokens === undefined) return null;
  if (!(secondsUntilFull(known, now, options) > SNAPSHOT_SECONDS)) return null;
  return { tokens: known.tokens, idleSeconds: secondsBetween(known.refilledAt, now) };
}

/** Only the bucket and the time of those that take longer than so many seconds to be a fresh peer's. */
function slowOnly(
  known: Known,
  now: number,
  seconds: number,
  bucket: BucketOptions | undefined,
  interval: number,
): Known | undefined {
  const { tokens, refilledAt, allowedAt = NEVER } = known;
  const keepsBucket = bucket !== undefined && secondsUntilFull(known, now, bucket) > seconds;
  const keepsTime = interval - secondsBetween(allowedAt, now) > seconds;
  return orNothing({
    ...NOTHING,
    ...(keepsBucket && { tokens, refilledAt }),
    ...(keepsTime && { allowedAt }),
  });
}

/** What a snapshot says of it, in seconds before now: where the clock stepped back, none have passed. */
function savedOnly(
  known: Known,
  now: number,
  bucket: BucketOptions | undefined,
  interval: number,
): Known | undefined {
  const saved = slowOnly(known, now, SNAPSHOT_SECONDS, bucket, interval);
  if (saved === undefined) return undefined;
  const { refilledAt, allowedAt } = saved;
  return {
    ...saved,
    refilledAt: Math.min(refilledAt, now),
    allowedAt: allowedAt === undefined ? undefined : Math.min(allowedAt, now),
  };
}

/** Takes the cost if it is there. */
function consumed(known: Known, cost: number, now: number, bucket: BucketOptions) {
  const tokens = refilled(known, now, bucket);
  const taken = tokens >= cost;
  const { allowedAt, violations, bannedAt } = known;
  const left = taken ? tokens - cost : tokens;
  return { taken, known: { tokens: left, refilledAt: now, allowedAt, violations, bannedAt } };
}

export interface RateOptions extends BucketOptions {
  readonly disconnectThreshold: number | null;
}

/** `RateLimiter`, SPEC 4. */
export function rateRules(options: RateOptions): Rules {
  const { rate, burst, disconnectThreshold } = options;
  return {
    banDuration: undefined,
    answer(given, question, now) {
      if (question.ask !== 'tokens') throw new Error('this limiter has no requests and no bans');
      const { cost } = question;
      const { taken, known } = consumed(given ?? NOTHING, cost, now, options);
      if (taken) return { known, answer: 0, verdict: 0 };
      const violations = oneMore(known.violations);
      const after = { ...known, violations };
      if (disconnectThreshold !== null && violations >= disconnectThreshold) {
        return { known: after, answer: DISCONNECT, verdict: 2 };
      }
      const answer = cost > burst ? Infinity : (cost - known.tokens) / rate;
      return { known: after, answer, verdict: 1 };
    },
    cleanup: (maxIdle) => [
      (known, now) => (secondsBetween(known.refilledAt, now) > maxIdle ? undefined : known),
    ],
    isFresh: (known, now) => known.violations === 0 && refilled(known, now, options) === burst,
    tokens: (known) => known?.tokens ?? burst,
    delay: (known) => Math.max(0, (1 - (known?.tokens ?? burst)) / rate),
    restored: ({ violations, idleSeconds, bucket }, now) => ({
      ...NOTHING,
      tokens: bucket?.tokens ?? burst,
      refilledAt: now - (bucket?.idleSeconds ?? idleSeconds ?? 0),
      violations,
    }),
    snapshot(known, now) {
      const { violations, refilledAt } = known;
      if (violations === 0) return undefined;
      const idleSeconds = secondsBetween(refilledAt, now);
      const bucket = savedBucket(known, now, options);
      return { violations, banSecondsLeft: null, idleSeconds, bucket };
    },
    saved: (known, now) => savedOnly(known, now, options, 0),
    awaited: (known, now) => slowOnly(known, now, 0, options, 0),
  };
}

export interface OrderbookOptions {
  readonly interval: number;
  readonly violationBanThreshold: number;
  readonly violationWarningThreshold: number;
  readonly violationSevereThreshold: number;
  readonly banDuration: number;
}

/** `OrderbookRateLimiter`, SPEC 5. */
export function orderbookRules(options: OrderbookOptions): Rules {
  const { banDuration } = options;
  const interval = (violations: number) => {
    if (violations < options.violationWarningThreshold) return options.interval;
    if (violations < options.violationSevereThreshold) return options.interval * 6;
    return options.interval * 30;
  };
  /** A ban that is over leaves an entry that was never allowed. */
  const lifted = (known: Known, now: number): Known =>
    banIsOver(known, banDuration, now) ? { ...NOTHING, allowedAt: NEVER } : known;
  const allows = ({ allowedAt = NEVER, violations }: Known, now: number) =>
    secondsBetween(allowedAt, now) >= interval(violations);
  return {
    banDuration,
    answer(given, question, now) {
      const known = lifted(given ?? NOTHING, now);
      const banned = known.bannedAt !== undefined;
      if (question.ask === 'ban') return { known: orNothing(known), answer: banned, verdict: 0 };
      const violator = { ...known, violations: oneMore(known.violations) };
      if (banned) return { known: violator, answer: REFUSED, verdict: 2 };
      if (known.violations >= options.violationBanThreshold) {
        return { known: { ...known, bannedAt: now }, answer: BAN_BEGINS, verdict: 2 };
      }
      if (allows(known, now)) {
        return { known: { ...known, allowedAt: now }, answer: ALLOWED, verdict: 0 };
      }
      return { known: violator, answer: REFUSED, verdict: 1 };
    },
    cleanup: (maxAge) => [
      (known, now) => {
        const { allowedAt, bannedAt, violations } = known;
        if (allowedAt === undefined || !(secondsBetween(allowedAt, now) > maxAge)) return known;
        const kept = bannedAt === undefined ? 0 : violations;
        return orNothing({ ...known, allowedAt: undefined, violations: kept });
      },
      (known, now) => withoutOldBan(known, banDuration, now),
    ],
    isFresh(known, now) {
      const current = lifted(known, now);
      return current.violations === 0 && current.bannedAt === undefined && allows(current, now);
    },
    restored: (peer, now) => withBan(peer, banDuration, now),
    snapshot(known, now) {
      const current = lifted(known, now);
      return offence(current, banDuration, now, null);
    },
    saved: (known, now) => savedOnly(known, now, undefined, interval(0)),
    awaited: (known, now) => slowOnly(known, now, 0, undefined, interval(0)),
  };
}

export interface DirectOptions extends BucketOptions {
  readonly orderbookInterval: number;
  readonly orderbookBanThreshold: number;
  readonly banDuration: number;
}

/** `DirectConnectionRateLimiter`, SPEC 6. */
export function directRules(options: DirectOptions): Rules {
  const { banDuration } = options;
  /** As a check sees it: a ban that is over goes, its violations with it. */
  const lifted = (known: Known, now: number): Known =>
    banIsOver(known, banDuration, now) ? { ...known, bannedAt: undefined, violations: 0 } : known;
  const allows = ({ allowedAt = NEVER }: Known, now: number) =>
    secondsBetween(allowedAt, now) >= options.orderbookInterval;
  const message = (known: Known, cost: number, now: number): Outcome => {
    if (known.bannedAt !== undefined) return { known, answer: REFUSED, verdict: 2 };
    const { taken, known: after } = consumed(known, cost, now, options);
    return { known: after, answer: taken ? ALLOWED : REFUSED, verdict: taken ? 0 : 1 };
  };
  const orderbook = (known: Known, now: number): Outcome => {
    const violations = oneMore(known.violations);
    const violator = { ...known, violations };
    if (known.bannedAt !== undefined) return { known: violator, answer: REFUSED, verdict: 2 };
    if (allows(known, now)) {
      return { known: { ...known, allowedAt: now }, answer: ALLOWED, verdict: 0 };
    }
    if (violations < options.orderbookBanThreshold) {
      return { known: violator, answer: REFUSED, verdict: 1 };
    }
    return { known: { ...violator, bannedAt: now }, answer: BAN_BEGINS, verdict: 2 };
  };
  return {
    banDuration,
    answer(given, question, now) {
      const known = given ?? NOTHING;
      if (question.ask === 'ban') {
        // Asked, a ban that is over leaves its violations.
        const over = banIsOver(known, banDuration, now);
        const after = over ? { ...known, bannedAt: undefined } : known;
        return { known: orNothing(after), answer: after.bannedAt !== undefined, verdict: 0 };
      }
      const current = lifted(known, now);
      if (question.ask === 'tokens') return message(current, question.cost, now);
      return orderbook(current, now);
    },
    cleanup: (maxAge) => [
      (known, now) => {
        if (known.tokens === undefined || !(secondsBetween(known.refilledAt, now) > maxAge)) {
          return known;
        }
        return orNothing({ ...known, tokens: undefined, refilledAt: NEVER });
      },
      (known, now) => {
        const { allowedAt, bannedAt } = known;
        if (allowedAt === undefined || bannedAt !== undefined) return known;
        if (!(secondsBetween(allowedAt, now) > maxAge)) return known;
        return orNothing({ ...known, allowedAt: undefined, violations: 0 });
      },
      (known, now) => withoutOldBan(known, banDuration, now),
    ],
    isFresh(known, now) {
      const current = lifted(known, now);
      return (
        current.violations === 0 &&
        current.bannedAt === undefined &&
        refilled(current, now, options) === options.burst &&
        allows(current, now)
      );
    },
    tokens: (known) => known?.tokens ?? options.burst,
    restored: (peer, now) => ({
      ...withBan(peer, banDuration, now),
      ...(peer.bucket && {
        tokens: peer.bucket.tokens,
        refilledAt: now - peer.bucket.idleSeconds,
      }),
    }),
    snapshot: (known, now) => {
      return offence(lifted(known, now), banDuration, now, savedBucket(known, now, options));
    },
    saved: (known, now) => savedOnly(known, now, options, options.orderbookInterval),
    awaited: (known, now) => slowOnly(known, now, 0, options, options.orderbookInterval),
  };
}

/** Violations after one more: they stop at 2^53 - 1. */
function oneMore(violations: number): number {
  return Math.min(violations + 1, Number.MAX_SAFE_INTEGER);
}

function banIsOver({ bannedAt }: Known, banDuration: number, now: number): boolean {
  return bannedAt !== undefined && secondsBetween(bannedAt, now) >= banDuration;
}

/** A cleanup keeps a ban at the very instant of its end. */
function withoutOldBan(known: Known, banDuration: number, now: number): Known | undefined {
  const { bannedAt } = known;
  if (bannedAt === undefined || !(secondsBetween(bannedAt, now) > banDuration)) return known;
  return orNothing({ ...known, bannedAt: undefined, violations: 0 });
}

function withBan(peer: SnapshotEntry, banDuration: number, now: number): Known {
  const { violations, banSecondsLeft, idleSeconds } = peer;
  return {
    ...NOTHING,
    violations,
    allowedAt: idleSeconds === null ? undefined : now - idleSeconds,
    bannedAt: banSecondsLeft === null ? undefined : now - (banDuration - banSecondsLeft),
  };
}

function offence(
  { violations, bannedAt, allowedAt = NEVER }: Known,
  duration: number,
  now: number,
  bucket: SnapshotEntry['bucket'],
) {
  if (violations === 0 && bannedAt === undefined) return undefined;
  return {
    violations,
    banSecondsLeft: bannedAt === undefined ? null : duration - secondsBetween(bannedAt, now),
    idleSeconds: allowedAt === NEVER ? null : secondsBetween(allowedAt, now),
    bucket,
  };
}
