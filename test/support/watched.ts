// Stands in for the snapshot of a limiter, as far as it is read by who watches.

import { subscribe } from 'node:diagnostics_channel';
import { BAN_CHANNEL, type BanMessage } from 'relay-limiter';
import type { WatchedLimiter } from 'relay-limiter/dashboard';

export function watched<L extends object>(limiter: L): L & WatchedLimiter {
  const bans = new Map<string, { violations: number; ends: number }>();
  const { isBanned } = limiter as { isBanned?: (key: string) => boolean };
  subscribe(BAN_CHANNEL, (message) => {
    const { limiter: banning, key, violations, banDuration } = message as BanMessage;
    const ends = performance.now() + banDuration * 1000;
    if (banning === limiter) bans.set(key, { violations, ends });
  });
  const snapshot = () => ({
    peers: [...bans]
      .filter(([key]) => isBanned?.call(limiter, key))
      .map(([key, { violations, ends }]) => {
        return { key, violations, banSecondsLeft: (ends - performance.now()) / 1000 };
      }),
  });
  return ('snapshot' in limiter ? limiter : Object.assign(limiter, { snapshot })) as never;
}
