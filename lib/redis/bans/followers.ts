// Followers: limiters that share their bans. Each takes over the bans of other processes, as `restore` does.

import { isInstance } from '../../common/kinds.js';
import { DirectConnectionRateLimiter } from '../../limiters/direct-connection-rate-limiter.js';
import { OrderbookRateLimiter } from '../../limiters/orderbook-rate-limiter.js';
import type { SharedBan } from './shared-ban.js';

export interface Follower {
  readonly limiter: OrderbookRateLimiter | DirectConnectionRateLimiter;
  /** Numbers of violations that are reported to other processes at once. */
  readonly levels: readonly number[];
  /** How many violations may be unreported, but for some seconds: a twentieth of those that make a ban. */
  readonly step: number;
  apply(bans: readonly SharedBan[]): void;
}

/** Undefined if `limiter` is of neither class that bans. */
export function createFollower(limiter: unknown): Follower | undefined {
  if (isInstance(limiter, OrderbookRateLimiter)) {
    const { violationWarningThreshold, violationSevereThreshold, violationBanThreshold } = limiter;
    const levels = [violationWarningThreshold, violationSevereThreshold, violationBanThreshold];
    const apply = (bans: readonly SharedBan[]) => restore(limiter, 'OrderbookRateLimiter', bans);
    return { limiter, levels, step: stepOf(violationBanThreshold), apply };
  }
  if (isInstance(limiter, DirectConnectionRateLimiter)) {
    const levels = [Math.ceil(limiter.orderbookBanThreshold / 2)];
    const apply = (bans: readonly SharedBan[]) => {
      restore(limiter, 'DirectConnectionRateLimiter', bans);
    };
    return { limiter, levels, step: stepOf(limiter.orderbookBanThreshold), apply };
  }
  return undefined;
}

function stepOf(banThreshold: number): number {
  return Math.max(1, Math.floor(banThreshold / 20));
}

function restore(limiter: Follower['limiter'], name: string, bans: readonly SharedBan[]): void {
  const peers = bans.map(({ key, seconds, violations }) => {
    const banSecondsLeft = seconds > 0 ? seconds : null;
    return { key, violations, banSecondsLeft, idleSeconds: null };
  });
  if (peers.length === 0) return;
  try {
    limiter.restore({ format: 1, limiter: name, peers });
  } catch {
    // No memory, or a failing clock. The other followers must get the bans all the same; SharedBans itself has them.
  }
}
