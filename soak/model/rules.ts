// The rules of the three limiters, as SPEC defines them: a function from one peer's state and a query to the answer and
// the new state. Written for readability, not for speed.

import {
  INITIAL_STATE,
  NEVER,
  type PeerState,
  secondsBetween,
  undefinedIfInitial,
} from './peer-state.js';

/**
 * A query about one peer: a check of tokens, a check of an order book request, whether the peer is banned, or the end
 * of its ban.
 */
export type Query =
  | { readonly kind: 'tokens'; readonly cost: number }
  | { readonly kind: 'orderbook' }
  | { readonly kind: 'ban' }
  | { readonly kind: 'unban' };

/** Whether a query is a check: only checks are counted, and only they add a peer. */
export function isCheck({ kind }: Query): boolean {
  return kind === 'tokens' || kind === 'orderbook';
}

export interface Outcome {
  readonly state: PeerState | undefined;
  /**
   * Checks of `RateLimiter`: 0, the seconds to wait, or DISCONNECT. Checks of the others: ALLOWED, REFUSED or BAN_BEGINS.
   * A query about bans: true if the peer is banned. An unban: true if it ended a ban.
   */
  readonly answer: number | boolean;
  /** The verdict byte of a group's check, also counted in statistics: 0 allow, 1 delay, 2 disconnect. */
  readonly verdict: number;
}

export const DISCONNECT = -1;
export const ALLOWED = 0;
export const REFUSED = 1;
export const BAN_BEGINS = 2;

/** The rules of one configured limiter for a single peer. */
export interface Rules {
  /** Seconds; undefined: this limiter has no bans. */
  readonly banDuration: number | undefined;
  answer(state: PeerState | undefined, query: Query, now: number): Outcome;
  /** Returns the passes of a cleanup; a budget may end the cleanup after any of them. */
  cleanup(maxAge: number): readonly ((state: PeerState, now: number) => PeerState | undefined)[];
  /** Returns true if forgetting this state changes no later answer. */
  isFresh(state: PeerState, now: number): boolean;
  /** The tokens after the peer's last check, for limiters with `getTokens`. */
  tokens?(state: PeerState | undefined): number;
  /** Seconds from the peer's last check until it has one token, for limiters with `getDelayForPeer`. */
  delay?(state: PeerState | undefined): number;
  /** The tokens at `now`, for limiters with `peek`. */
  refilled?(state: PeerState | undefined, now: number): number;
  /** The seconds that a ban has left, for limiters with `banSecondsLeft`. */
  secondsLeft?(state: PeerState | undefined, now: number): number;
  /** Returns the state of a restored offender. */
  restored(peer: SnapshotEntry, now: number): PeerState;
  /** Returns the snapshot entry of a state; undefined if the snapshot does not list the peer by key. */
  snapshot(state: PeerState, now: number): Omit<SnapshotEntry, 'key'> | undefined;
  /** Returns what a snapshot stores under a digest for a peer that it does not list by key. */
  saved(state: PeerState, now: number): PeerState | undefined;
  /** Returns what a cleanup leaves of that: it removes values that equal those of a fresh peer. */
  pending(state: PeerState, now: number): PeerState | undefined;
}

export interface SnapshotEntry {
  readonly key: string;
  readonly violations: number;
  readonly banSecondsLeft: number | null;
  readonly idleSeconds: number | null;
  readonly bucket: { readonly tokens: number; readonly idleSeconds: number } | null;
}

/** A snapshot omits values that equal those of a fresh peer within 10 seconds. */
const SNAPSHOT_SECONDS = 10;

export interface BucketOptions {
  readonly rate: number;
  readonly burst: number;
}

/** Returns the tokens of a bucket at `now`. */
function refilled(state: PeerState, now: number, { rate, burst }: BucketOptions): number {
  if (state.tokens === undefined) return burst;
  const tokens = state.tokens + secondsBetween(state.refilledAt, now) * rate;
  return tokens < burst ? tokens : burst;
}

function secondsUntilFull(state: PeerState, now: number, options: BucketOptions): number {
  if (state.tokens === undefined) return 0;
  const tokens = state.tokens + secondsBetween(state.refilledAt, now) * options.rate;
  const missing = options.burst - tokens;
  return missing > 0 ? missing / options.rate : 0;
}

/** Returns a bucket as a snapshot stores it; null if it will be full within SNAPSHOT_SECONDS. */
function savedBucket(state: PeerState, now: number, options: BucketOptions) {
  if (state.tokens === undefined) return null;
  if (!(secondsUntilFull(state, now, options) > SNAPSHOT_SECONDS)) return null;
  return { tokens: state.tokens, idleSeconds: secondsBetween(state.refilledAt, now) };
}

/** Keeps the bucket and the time of the last request only if they differ from a fresh peer's for more than `seconds`. */
function slowOnly(
  state: PeerState,
  now: number,
  seconds: number,
  bucket: BucketOptions | undefined,
  interval: number,
): PeerState | undefined {
  const { tokens, refilledAt, allowedAt = NEVER } = state;
  const keepsBucket = bucket !== undefined && secondsUntilFull(state, now, bucket) > seconds;
  const keepsTime = interval - secondsBetween(allowedAt, now) > seconds;
  return undefinedIfInitial({
    ...INITIAL_STATE,
    ...(keepsBucket && { tokens, refilledAt }),
    ...(keepsTime && { allowedAt }),
  });
}

/** Returns what a snapshot stores under a digest, as seconds before `now`: 0 if the clock stepped back. */
function savedOnly(
  state: PeerState,
  now: number,
  bucket: BucketOptions | undefined,
  interval: number,
): PeerState | undefined {
  const saved = slowOnly(state, now, SNAPSHOT_SECONDS, bucket, interval);
  if (saved === undefined) return undefined;
  const { refilledAt, allowedAt } = saved;
  return {
    ...saved,
    refilledAt: Math.min(refilledAt, now),
    allowedAt: allowedAt === undefined ? undefined : Math.min(allowedAt, now),
  };
}

/** Takes the cost from the bucket if it has enough tokens. */
function consumed(state: PeerState, cost: number, now: number, bucket: BucketOptions) {
  const tokens = refilled(state, now, bucket);
  const taken = tokens >= cost;
  const { allowedAt, violations, bannedAt } = state;
  const left = taken ? tokens - cost : tokens;
  return { taken, state: { tokens: left, refilledAt: now, allowedAt, violations, bannedAt } };
}

export interface RateOptions extends BucketOptions {
  readonly disconnectThreshold: number | null;
}

/** `RateLimiter`, SPEC 4. */
export function rateRules(options: RateOptions): Rules {
  const { rate, burst, disconnectThreshold } = options;
  return {
    banDuration: undefined,
    answer(given, query, now) {
      if (query.kind !== 'tokens') throw new Error('this limiter has no requests and no bans');
      const { cost } = query;
      const { taken, state } = consumed(given ?? INITIAL_STATE, cost, now, options);
      if (taken) return { state, answer: 0, verdict: 0 };
      const violations = oneMore(state.violations);
      const after = { ...state, violations };
      if (disconnectThreshold !== null && violations >= disconnectThreshold) {
        return { state: after, answer: DISCONNECT, verdict: 2 };
      }
      const answer = cost > burst ? Infinity : (cost - state.tokens) / rate;
      return { state: after, answer, verdict: 1 };
    },
    cleanup: (maxIdle) => [
      (state, now) => (secondsBetween(state.refilledAt, now) > maxIdle ? undefined : state),
    ],
    isFresh: (state, now) => state.violations === 0 && refilled(state, now, options) === burst,
    tokens: (state) => state?.tokens ?? burst,
    delay: (state) => Math.max(0, (1 - (state?.tokens ?? burst)) / rate),
    refilled: (state = INITIAL_STATE, now) => refilled(state, now, options),
    restored: ({ violations, idleSeconds, bucket }, now) => ({
      ...INITIAL_STATE,
      tokens: bucket?.tokens ?? burst,
      refilledAt: now - (bucket?.idleSeconds ?? idleSeconds ?? 0),
      violations,
    }),
    snapshot(state, now) {
      const { violations, refilledAt } = state;
      if (violations === 0) return undefined;
      const idleSeconds = secondsBetween(refilledAt, now);
      const bucket = savedBucket(state, now, options);
      return { violations, banSecondsLeft: null, idleSeconds, bucket };
    },
    saved: (state, now) => savedOnly(state, now, options, 0),
    pending: (state, now) => slowOnly(state, now, 0, options, 0),
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
  /** Ends a ban that is over. Its entry remains, without an allowed request. */
  const lifted = (state: PeerState, now: number): PeerState =>
    banIsOver(state, banDuration, now) ? { ...INITIAL_STATE, allowedAt: NEVER } : state;
  const allows = ({ allowedAt = NEVER, violations }: PeerState, now: number) =>
    secondsBetween(allowedAt, now) >= interval(violations);
  return {
    banDuration,
    secondsLeft: (state, now) => secondsLeft(state, banDuration, now),
    answer(given, query, now) {
      if (query.kind === 'unban') {
        const answer = secondsLeft(given, banDuration, now) > 0;
        const state = answer ? { ...INITIAL_STATE, allowedAt: NEVER } : given;
        return { state, answer, verdict: 0 };
      }
      const state = lifted(given ?? INITIAL_STATE, now);
      const banned = state.bannedAt !== undefined;
      if (query.kind === 'ban')
        return { state: undefinedIfInitial(state), answer: banned, verdict: 0 };
      const violator = { ...state, violations: oneMore(state.violations) };
      if (banned) return { state: violator, answer: REFUSED, verdict: 2 };
      if (state.violations >= options.violationBanThreshold) {
        return { state: { ...state, bannedAt: now }, answer: BAN_BEGINS, verdict: 2 };
      }
      if (allows(state, now)) {
        return { state: { ...state, allowedAt: now }, answer: ALLOWED, verdict: 0 };
      }
      return { state: violator, answer: REFUSED, verdict: 1 };
    },
    cleanup: (maxAge) => [
      (state, now) => {
        const { allowedAt, bannedAt, violations } = state;
        if (allowedAt === undefined || !(secondsBetween(allowedAt, now) > maxAge)) return state;
        const kept = bannedAt === undefined ? 0 : violations;
        return undefinedIfInitial({ ...state, allowedAt: undefined, violations: kept });
      },
      (state, now) => withoutOldBan(state, banDuration, now),
    ],
    isFresh(state, now) {
      const current = lifted(state, now);
      return current.violations === 0 && current.bannedAt === undefined && allows(current, now);
    },
    restored: (peer, now) => withBan(peer, banDuration, now),
    snapshot(state, now) {
      const current = lifted(state, now);
      return offence(current, banDuration, now, null);
    },
    saved: (state, now) => savedOnly(state, now, undefined, interval(0)),
    pending: (state, now) => slowOnly(state, now, 0, undefined, interval(0)),
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
  /** Ends a ban that is over, as a check does: its violations are removed too. */
  const lifted = (state: PeerState, now: number): PeerState =>
    banIsOver(state, banDuration, now) ? { ...state, bannedAt: undefined, violations: 0 } : state;
  const allows = ({ allowedAt = NEVER }: PeerState, now: number) =>
    secondsBetween(allowedAt, now) >= options.orderbookInterval;
  const message = (state: PeerState, cost: number, now: number): Outcome => {
    if (state.bannedAt !== undefined) return { state, answer: REFUSED, verdict: 2 };
    const { taken, state: after } = consumed(state, cost, now, options);
    return { state: after, answer: taken ? ALLOWED : REFUSED, verdict: taken ? 0 : 1 };
  };
  const orderbook = (state: PeerState, now: number): Outcome => {
    const violations = oneMore(state.violations);
    const violator = { ...state, violations };
    if (state.bannedAt !== undefined) return { state: violator, answer: REFUSED, verdict: 2 };
    if (allows(state, now)) {
      return { state: { ...state, allowedAt: now }, answer: ALLOWED, verdict: 0 };
    }
    if (violations < options.orderbookBanThreshold) {
      return { state: violator, answer: REFUSED, verdict: 1 };
    }
    return { state: { ...violator, bannedAt: now }, answer: BAN_BEGINS, verdict: 2 };
  };
  return {
    banDuration,
    secondsLeft: (state, now) => secondsLeft(state, banDuration, now),
    answer(given, query, now) {
      const state = given ?? INITIAL_STATE;
      if (query.kind === 'unban') {
        const answer = secondsLeft(given, banDuration, now) > 0;
        const after = answer ? { ...state, bannedAt: undefined } : state;
        return { state: undefinedIfInitial(after), answer, verdict: 0 };
      }
      if (query.kind === 'ban') {
        // A query about bans ends a ban that is over, but keeps its violations.
        const over = banIsOver(state, banDuration, now);
        const after = over ? { ...state, bannedAt: undefined } : state;
        return {
          state: undefinedIfInitial(after),
          answer: after.bannedAt !== undefined,
          verdict: 0,
        };
      }
      const current = lifted(state, now);
      if (query.kind === 'tokens') return message(current, query.cost, now);
      return orderbook(current, now);
    },
    cleanup: (maxAge) => [
      (state, now) => {
        if (state.tokens === undefined || !(secondsBetween(state.refilledAt, now) > maxAge)) {
          return state;
        }
        return undefinedIfInitial({ ...state, tokens: undefined, refilledAt: NEVER });
      },
      (state, now) => {
        const { allowedAt, bannedAt } = state;
        if (allowedAt === undefined || bannedAt !== undefined) return state;
        if (!(secondsBetween(allowedAt, now) > maxAge)) return state;
        return undefinedIfInitial({ ...state, allowedAt: undefined, violations: 0 });
      },
      (state, now) => withoutOldBan(state, banDuration, now),
    ],
    isFresh(state, now) {
      const current = lifted(state, now);
      return (
        current.violations === 0 &&
        current.bannedAt === undefined &&
        refilled(current, now, options) === options.burst &&
        allows(current, now)
      );
    },
    tokens: (state) => state?.tokens ?? options.burst,
    restored: (peer, now) => ({
      ...withBan(peer, banDuration, now),
      ...(peer.bucket && {
        tokens: peer.bucket.tokens,
        refilledAt: now - peer.bucket.idleSeconds,
      }),
    }),
    snapshot: (state, now) => {
      return offence(lifted(state, now), banDuration, now, savedBucket(state, now, options));
    },
    saved: (state, now) => savedOnly(state, now, options, options.orderbookInterval),
    pending: (state, now) => slowOnly(state, now, 0, options, options.orderbookInterval),
  };
}

/** Adds one violation, up to 2^53 - 1. */
function oneMore(violations: number): number {
  return Math.min(violations + 1, Number.MAX_SAFE_INTEGER);
}

function banIsOver({ bannedAt }: PeerState, banDuration: number, now: number): boolean {
  return bannedAt !== undefined && secondsBetween(bannedAt, now) >= banDuration;
}

function secondsLeft(state: PeerState | undefined, banDuration: number, now: number): number {
  if (state?.bannedAt === undefined) return 0;
  return Math.max(0, banDuration - secondsBetween(state.bannedAt, now));
}

/** Removes a ban that is over. A cleanup keeps a ban exactly at its end. */
function withoutOldBan(state: PeerState, banDuration: number, now: number): PeerState | undefined {
  const { bannedAt } = state;
  if (bannedAt === undefined || !(secondsBetween(bannedAt, now) > banDuration)) return state;
  return undefinedIfInitial({ ...state, bannedAt: undefined, violations: 0 });
}

function withBan(peer: SnapshotEntry, banDuration: number, now: number): PeerState {
  const { violations, banSecondsLeft, idleSeconds } = peer;
  return {
    ...INITIAL_STATE,
    violations,
    allowedAt: idleSeconds === null ? undefined : now - idleSeconds,
    bannedAt: banSecondsLeft === null ? undefined : now - (banDuration - banSecondsLeft),
  };
}

function offence(
  { violations, bannedAt, allowedAt = NEVER }: PeerState,
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
