// Stands in for what limiters do not tell of themselves yet: totals of verdicts, and a snapshot. Checks
// by key alone are counted.

import { subscribe } from 'node:diagnostics_channel';
import { BAN_CHANNEL, type BanMessage } from 'relay-limiter';
import type { WatchedLimiter } from 'relay-limiter/dashboard';

type Check = (key: string, cost?: number) => unknown;

export function watched<L extends object>(limiter: L): L & WatchedLimiter {
  const open = limiter as unknown as Record<string, (...args: never[]) => unknown>;
  const verdicts = { allow: 0, delay: 0, disconnect: 0 };
  const bans = new Map<string, { violations: number; ends: number }>();
  const isBanned = (key: string) =>
    'isBanned' in open && (open['isBanned'] as Check).call(limiter, key);
  subscribe(BAN_CHANNEL, (message) => {
    const { limiter: banning, key, violations, banDuration } = message as BanMessage;
    if (banning === limiter)
      bans.set(key, { violations, ends: performance.now() + banDuration * 1000 });
  });
  for (const method of ['check', 'checkMessage', 'checkOrderbook']) {
    const check = open[method] as Check | undefined;
    if (check === undefined) continue;
    open[method] = (key: string, cost?: number) => {
      const answer = check.call(limiter, key, cost);
      const verdict = Array.isArray(answer) ? answer[0] : answer ? 'allow' : 'delay';
      verdicts[(verdict === 'delay' && isBanned(key) ? 'disconnect' : verdict) as 'allow'] += 1;
      return answer;
    };
  }
  const method = 'getStats' in open ? 'getStats' : 'getStatistics';
  const statistics = (open[method] as () => object).bind(limiter);
  const counts = { evictions: 0, lossyEvictions: 0, refusedNewcomers: 0 };
  open[method] = () => ({
    ...statistics(),
    ...counts,
    verdicts: { ...verdicts },
    bansBegun: bans.size,
  });
  open['snapshot'] ??= () => ({
    peers: [...bans]
      .filter(([key]) => isBanned(key))
      .map(([key, { violations, ends }]) => {
        return { key, violations, banSecondsLeft: (ends - performance.now()) / 1000 };
      }),
  });
  return limiter as L & WatchedLimiter;
}
