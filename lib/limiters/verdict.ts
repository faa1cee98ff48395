// One answer for three limiters: what guards ask, whichever limiter they are given. Decides nothing.
// A RateLimiter's verdicts pass as they are; the others say true or false, and here that becomes what to
// do and how long to wait. Knows no sockets and no requests.

import { limiterError, refused } from '../common/errors.js';
import { hasMethods } from '../common/kinds.js';
import { type CheckResult, type Peer, RateLimitAction } from '../common/types.js';
import type { DirectConnectionRateLimiter } from './direct-connection-rate-limiter.js';
import type { OrderbookRateLimiter } from './orderbook-rate-limiter.js';
import type { RateLimiter } from './rate-limiter.js';

/** What a guard takes. */
export type AnyLimiter = RateLimiter | OrderbookRateLimiter | DirectConnectionRateLimiter;

/** Those of them that ban. */
export type BanningLimiter = OrderbookRateLimiter | DirectConnectionRateLimiter;

const ALLOWED: CheckResult = Object.freeze([RateLimitAction.ALLOW, 0] as const);

/**
 * The verdict on one message or request. `cost` is 1 by default; an OrderbookRateLimiter counts requests,
 * so there 0 means that this is none, and anything else one.
 *
 * DELAY comes with seconds after which it will be allowed if nothing else is asked meanwhile, Infinity
 * where it never will: exact for a RateLimiter, at most so long for the others. DISCONNECT comes with the
 * seconds that a ban lasts, 0 where nobody is banned.
 * @throws what the limiter's own check throws, which changes nothing.
 */
export function judge(limiter: AnyLimiter, key: string, cost?: number): CheckResult {
  if ('checkMessage' in limiter) {
    return limiter.checkMessage(key, cost) ? ALLOWED : refusedMessage(limiter, key, cost);
  }
  if ('isBanned' in limiter) {
    return cost === 0 || limiter.check(key) ? ALLOWED : refusedRequest(limiter, key);
  }
  return limiter.check(key, cost);
}

/** A peer that answers what `judge` would of its key, and is asked faster. Owns nothing. */
export function openPeer(limiter: AnyLimiter, key: string): Peer {
  if ('checkMessage' in limiter) {
    const peer = limiter.open(key);
    const check = (cost?: number) =>
      peer.checkMessage(cost) ? ALLOWED : refusedMessage(limiter, key, cost);
    return { key, check };
  }
  if ('isBanned' in limiter) {
    const peer = limiter.open(key);
    const check = (cost?: number) =>
      cost === 0 || peer.check() ? ALLOWED : refusedRequest(limiter, key);
    return { key, check };
  }
  return limiter.open(key);
}

/** Counts an offence; true if its ban is in force now. */
export function offend(limiter: BanningLimiter, key: string): boolean {
  if ('checkOrderbook' in limiter) limiter.checkOrderbook(key);
  else limiter.check(key);
  return limiter.isBanned(key);
}

/** Whether a ban is in force. A RateLimiter bans nobody. */
export function isBanned(limiter: AnyLimiter, key: string): boolean {
  return 'isBanned' in limiter && limiter.isBanned(key);
}

/** @throws `ERR_LIMITER_OPTION` unless it is one of the three limiters. */
export function requireLimiter(value: unknown, name: string): asserts value is AnyLimiter {
  // By what it can do, not by its class: two copies of this package have two classes of one name.
  const canCheck = hasMethods(value, 'check') || hasMethods(value, 'checkMessage');
  if (canCheck && hasMethods(value, 'open', 'removePeer')) return;
  throw wrongLimiter(
    value,
    name,
    'a RateLimiter, an OrderbookRateLimiter or a DirectConnectionRateLimiter',
  );
}

/** @throws `ERR_LIMITER_OPTION` unless it is a limiter that bans. */
export function requireBanning(value: unknown, name: string): asserts value is BanningLimiter {
  if (hasMethods(value, 'removePeer', 'open', 'isBanned')) return;
  throw wrongLimiter(
    value,
    name,
    'a limiter that bans: an OrderbookRateLimiter or a DirectConnectionRateLimiter',
  );
}

/** A SharedRateLimiter looks like a RateLimiter, but answers by promises. */
function wrongLimiter(value: unknown, name: string, accepted: string): Error {
  if (!hasMethods(value, 'checkAsync')) {
    return refused('ERR_LIMITER_OPTION', name, value, accepted);
  }
  const message = `${name} must be ${accepted}, got a SharedRateLimiter: call its checkAsync() yourself`;
  return limiterError(TypeError, 'ERR_LIMITER_OPTION', message);
}

/** A bucket of messages is refilled at a known rate, so the wait is at most that for the whole cost. */
function refusedMessage(limiter: DirectConnectionRateLimiter, key: string, cost = 1): CheckResult {
  if (limiter.isBanned(key)) return [RateLimitAction.DISCONNECT, limiter.banDuration];
  const fits = cost <= limiter.messageBurst;
  return [RateLimitAction.DELAY, fits ? cost / limiter.messageRatePerSec : Infinity];
}

/** Waits a whole interval, since the time of the last request that was allowed is not told. */
function refusedRequest(limiter: OrderbookRateLimiter, key: string): CheckResult {
  if (limiter.isBanned(key)) return [RateLimitAction.DISCONNECT, limiter.banDuration];
  return [RateLimitAction.DELAY, intervalOf(limiter, key)];
}

/** Seconds from a request of this key that is allowed to the next one, by its backoff level. */
export function intervalOf(limiter: OrderbookRateLimiter, key: string): number {
  return limiter.interval * TIMES[limiter.getBackoffLevel(key)];
}

/** How much longer the interval is; whoever is about to be banned waits as long as the worst. */
const TIMES = { NORMAL: 1, MODERATE: 6, SEVERE: 30, BANNED: 30 } as const;
