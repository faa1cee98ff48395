// One kind of verdict for all three limiters: guards and HTTP limits accept any of them. A RateLimiter returns no time
// with DISCONNECT, which is added here. The other limiters return true or false, which becomes an action and a delay.

import { ALLOWED } from '../common/check-results.js';
import { invalidValue, limiterError } from '../common/errors.js';
import { hasMethods } from '../common/kinds.js';
import { type CheckResult, type Peer, RateLimitAction } from '../common/types.js';
import { STALLED_SECONDS } from '../engine/engine.js';
import { delaySeconds } from '../tables/arithmetic.js';
import { type AsyncLimiter, isAsyncLimiter } from './async-limiter.js';
import type { DirectConnectionRateLimiter } from './direct-connection-rate-limiter.js';
import type { OrderbookRateLimiter } from './orderbook-rate-limiter.js';
import type { RateLimiter } from './rate-limiter.js';
import { requireStalled, unlessStalled } from './stalled.js';

/** AnyLimiter is a limiter that a guard accepts. */
export type AnyLimiter = RateLimiter | OrderbookRateLimiter | DirectConnectionRateLimiter;

/** BanningLimiter is a limiter that can ban peers. */
export type BanningLimiter = OrderbookRateLimiter | DirectConnectionRateLimiter;

/**
 * Checks one message or request. `cost` is 1 by default. An OrderbookRateLimiter counts requests: a cost of 0 is no
 * request, any other cost is one.
 *
 * DELAY comes with the seconds after which the check is allowed, unless there are other checks in the meantime; Infinity
 * if it is never allowed. The delay is exact for a RateLimiter, and an upper bound for the other limiters. DISCONNECT
 * comes with the delay of a RateLimiter, and with the seconds that the ban has left of the other limiters.
 * @throws the errors of the limiter's own check, which change nothing.
 */
export function checkAny(limiter: AnyLimiter, key: string, cost?: number): CheckResult {
  if ('checkMessage' in limiter) {
    return limiter.checkMessage(key, cost) ? ALLOWED : messageRefusal(limiter, key, cost);
  }
  if ('isBanned' in limiter) {
    return cost === 0 || limiter.check(key) ? ALLOWED : requestRefusal(limiter, key);
  }
  return withDelay(limiter.check(key, cost), limiter, key, cost);
}

/** Returns a cached handle of a peer. Its check returns what `checkAny` of its key returns, and is faster. */
export function openPeer(limiter: AnyLimiter, key: string): Peer {
  if ('checkMessage' in limiter) {
    const peer = limiter.open(key);
    const check = (cost?: number) =>
      peer.checkMessage(cost) ? ALLOWED : messageRefusal(limiter, key, cost);
    return { key, check };
  }
  if ('isBanned' in limiter) {
    const peer = limiter.open(key);
    const check = (cost?: number) =>
      cost === 0 || peer.check() ? ALLOWED : requestRefusal(limiter, key);
    return { key, check };
  }
  const peer = limiter.open(key);
  return { key, check: (cost?: number) => withDelay(peer.check(cost), limiter, key, cost) };
}

/** Counts an offence of a peer; returns whether a ban of the peer is in force. */
export function recordOffence(limiter: BanningLimiter, key: string): boolean {
  if ('checkOrderbook' in limiter) limiter.checkOrderbook(key);
  else limiter.check(key);
  return isBanned(limiter, key);
}

/** Whether a ban of the peer is in force. A RateLimiter has no bans. */
export function isBanned(limiter: AnyLimiter, key: string): boolean {
  return 'isBanned' in limiter && unlessStalled(() => limiter.isBanned(key), false);
}

/** Returns the seconds that a ban of the peer has left; 0 without one. A RateLimiter has no bans. */
export function banSecondsLeft(limiter: AnyLimiter, key: string): number {
  return 'isBanned' in limiter ? unlessStalled(() => limiter.banSecondsLeft(key), 0) : 0;
}

/** @throws `ERR_LIMITER_OPTION` unless `value` is one of the three limiters, or a SharedRateLimiter. */
export function requireLimiter(
  value: unknown,
  name: string,
): asserts value is AnyLimiter | AsyncLimiter {
  if (isAsyncLimiter(value)) return;
  // By its methods, not by its class: two copies of this package have two classes with the same name.
  const canCheck = hasMethods(value, 'check') || hasMethods(value, 'checkMessage');
  if (canCheck && !isRuleLimiter(value) && hasMethods(value, 'open', 'removePeer')) return;
  throw invalidLimiter(
    value,
    name,
    'a RateLimiter, an OrderbookRateLimiter, a DirectConnectionRateLimiter or a SharedRateLimiter',
  );
}

/** @throws `ERR_LIMITER_OPTION` unless `value` is a limiter with bans. */
export function requireBanning(value: unknown, name: string): asserts value is BanningLimiter {
  if (hasMethods(value, 'removePeer', 'open', 'isBanned')) return;
  throw invalidLimiter(
    value,
    name,
    'a limiter that bans: an OrderbookRateLimiter or a DirectConnectionRateLimiter',
  );
}

/** A RuleLimiter has methods of these names, but its checks take keys by scope. */
export function isRuleLimiter(value: unknown): boolean {
  return hasMethods(value, 'charge', 'update');
}

function invalidLimiter(value: unknown, name: string, accepted: string): Error {
  if (isRuleLimiter(value)) {
    const message = `${name} must be ${accepted}, got a RuleLimiter: it is the option limiter`;
    return limiterError(TypeError, 'ERR_LIMITER_OPTION', message);
  }
  if (!isAsyncLimiter(value)) return invalidValue('ERR_LIMITER_OPTION', name, value, accepted);
  const message = `${name} must be ${accepted}, got a SharedRateLimiter, which bans nobody`;
  return limiterError(TypeError, 'ERR_LIMITER_OPTION', message);
}

/** Adds the delay to a DISCONNECT of a RateLimiter: the peer is allowed again when its bucket holds the cost. */
function withDelay(verdict: CheckResult, limiter: RateLimiter, key: string, cost = 1): CheckResult {
  if (verdict[0] !== RateLimitAction.DISCONNECT) return verdict;
  const { rateLimit, burstLimit } = limiter;
  try {
    return [verdict[0], delaySeconds(limiter.getTokens(key), cost, rateLimit, burstLimit)];
  } catch (error) {
    return stalledRefusal(error);
  }
}

/** The verdict of a refused check if nothing can be read of its peer at present. @throws all other errors */
function stalledRefusal(error: unknown): CheckResult {
  requireStalled(error);
  return [RateLimitAction.DELAY, STALLED_SECONDS];
}

/** The delay is an upper bound: the time in which an empty message bucket gets `cost` tokens. */
function messageRefusal(limiter: DirectConnectionRateLimiter, key: string, cost = 1): CheckResult {
  try {
    const seconds = limiter.banSecondsLeft(key);
    if (seconds > 0) return [RateLimitAction.DISCONNECT, seconds];
  } catch (error) {
    return stalledRefusal(error);
  }
  const fits = cost <= limiter.messageBurst;
  return [RateLimitAction.DELAY, fits ? cost / limiter.messageRatePerSec : Infinity];
}

/** The delay is an upper bound, one whole interval: the limiter does not expose the time of the last allowed request. */
function requestRefusal(limiter: OrderbookRateLimiter, key: string): CheckResult {
  try {
    const seconds = limiter.banSecondsLeft(key);
    if (seconds > 0) return [RateLimitAction.DISCONNECT, seconds];
    return [RateLimitAction.DELAY, intervalOf(limiter, key)];
  } catch (error) {
    return stalledRefusal(error);
  }
}

/** Returns the seconds between two allowed requests of a key, by its backoff level. */
export function intervalOf(limiter: OrderbookRateLimiter, key: string): number {
  return limiter.interval * BACKOFF_FACTORS[limiter.getBackoffLevel(key)];
}

/** The factors of the interval. A peer at the ban threshold without a ban in force has the factor of SEVERE. */
const BACKOFF_FACTORS = { NORMAL: 1, MODERATE: 6, SEVERE: 30, BANNED: 30 } as const;
