// The table of guards: their connections and what they refused, by reason.

import type { GuardStats, ObservableGuard } from '../guard/guard-stats.js';
import { ifKnown } from '../limiters/stats.js';
import type { ListedGuard } from './messages.js';

/** Lists the guards in the order of the option `guards`. Omits a guard whose statistics throw. */
export function listedGuards(
  guards: readonly (readonly [name: string, guard: ObservableGuard])[],
): ListedGuard[] {
  return guards.flatMap(([name, guard]) => {
    const stats = ifKnown(() => guard.getStats());
    return stats === null ? [] : [listedGuard(name, stats)];
  });
}

function listedGuard(name: string, { connections, messages, deliveries }: GuardStats): ListedGuard {
  const { open, paused, refused, closed } = connections;
  const notSent =
    deliveries === undefined
      ? {}
      : { slow: deliveries.droppedSlow, 'delivery rate': deliveries.droppedRate };
  return { name, open, paused, refused, closed, dropped: { ...messages.dropped, ...notSent } };
}
