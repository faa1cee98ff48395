// Who may connect: nobody whose address is banned, only so many at once from one address, and only so
// often. Counts the connections that are open. Knows no sockets; says no, and why.

import { type CheckResult, RateLimitAction } from '../common/types.js';
import { type AnyLimiter, isBanned, judge } from '../limiters/verdict.js';
import type { Visitor } from './visitor.js';

/** Why somebody may not connect. */
export type ConnectionReason =
  | 'ban'
  | 'concurrency'
  | 'rate'
  /** A key, a limiter or `trustedProxies` threw; `onError` was told. */
  | 'error';

export interface Refusal {
  readonly reason: ConnectionReason;
  readonly verdict: CheckResult;
}

export interface DoorOptions {
  /** How often an address may connect. */
  readonly limiter: AnyLimiter | undefined;
  /** Most connections of an address at once. */
  readonly maxPerAddress: number;
  /** Limiters by address, whose bans keep out. */
  readonly bans: readonly AnyLimiter[];
}

/** When one of the connections that are too many will close, nobody knows: so long is asked to wait. */
const CONCURRENCY_DELAY = 10;
const TOO_MANY: Refusal = {
  reason: 'concurrency',
  verdict: [RateLimitAction.DELAY, CONCURRENCY_DELAY],
};

/** What was asked threw. */
export const UNKNOWN: Refusal = { reason: 'error', verdict: [RateLimitAction.DELAY, 0] };

export class Door {
  readonly #options: DoorOptions;
  readonly #open = new Map<string, number>();

  constructor(options: DoorOptions) {
    this.#options = options;
  }

  /** Lets somebody in, until `leave`; or says why not. */
  enter({ key }: Visitor): Refusal | undefined {
    const refusal = this.#refusal(key);
    if (refusal === undefined) this.#open.set(key, this.#count(key) + 1);
    return refusal;
  }

  /** The connection is closed. What its address has done stays known; what has no address is forgotten. */
  leave({ key, isTransient }: Visitor): void {
    const left = this.#count(key) - 1;
    if (left > 0) this.#open.set(key, left);
    else this.#open.delete(key);
    if (isTransient) this.#options.limiter?.removePeer(key);
  }

  #refusal(key: string): Refusal | undefined {
    const { bans, limiter, maxPerAddress } = this.#options;
    const ban = bans.find((limiter) => isBanned(limiter, key));
    if (ban !== undefined) {
      const seconds = 'banDuration' in ban ? ban.banDuration : 0;
      return { reason: 'ban', verdict: [RateLimitAction.DISCONNECT, seconds] };
    }
    if (this.#count(key) >= maxPerAddress) return TOO_MANY;
    if (limiter === undefined) return undefined;
    const [action, seconds] = judge(limiter, key);
    if (action === RateLimitAction.ALLOW) return undefined;
    // A RateLimiter says DISCONNECT without the time.
    const isUntimed = action === RateLimitAction.DISCONNECT && 'getDelayForPeer' in limiter;
    const delaySeconds = isUntimed ? limiter.getDelayForPeer(key) : seconds;
    return { reason: 'rate', verdict: [action, delaySeconds] };
  }

  #count(key: string): number {
    return this.#open.get(key) ?? 0;
  }
}
