// Metrics of guards, read by their getStats(). A guard has one series for each reason; no metric has a key.

import type { CountsByReason, GuardStats, ObservableGuard } from '../guard/guard-stats.js';
import { ifKnown } from '../limiters/stats.js';
import { type Definitions, plain, type Value } from './definitions.js';
import type { Labeled } from './limiters.js';

export const GUARDS: Definitions<GuardStats> = {
  counters: [
    {
      name: 'guard_connections_accepted_total',
      help: 'Connections that passed.',
      values: ({ connections }) => plain(connections.accepted),
    },
    {
      name: 'guard_connections_refused_total',
      help: 'Connections refused, by reason.',
      labels: ['reason'],
      values: ({ connections }) => byReason(connections.refused),
    },
    {
      name: 'guard_connections_closed_total',
      help: 'Connections closed by the guard, by reason; slow: the peer did not read.',
      labels: ['reason'],
      values: ({ connections }) => byReason(connections.closed),
    },
    {
      name: 'guard_messages_passed_total',
      help: 'Messages that passed.',
      values: ({ messages }) => plain(messages.passed),
    },
    {
      name: 'guard_messages_delayed_total',
      help: 'Messages that had to wait.',
      values: ({ messages }) => plain(messages.delayed),
    },
    {
      name: 'guard_messages_dropped_total',
      help: 'Messages discarded, by reason.',
      labels: ['reason'],
      values: ({ messages }) => byReason(messages.dropped),
    },
    {
      name: 'guard_deliveries_sent_total',
      help: 'Messages sent by the guard.',
      values: ({ deliveries }) => (deliveries === undefined ? [] : plain(deliveries.sent)),
    },
    {
      name: 'guard_deliveries_dropped_total',
      help: 'Messages not sent by the guard; slow: the peer did not read, rate: its limiter refused.',
      labels: ['reason'],
      values: ({ deliveries }) => {
        if (deliveries === undefined) return [];
        const { droppedSlow, droppedRate } = deliveries;
        return byReason({ slow: droppedSlow, rate: droppedRate });
      },
    },
  ],
  gauges: [
    {
      name: 'guard_connections',
      help: 'Guarded connections that are open.',
      values: ({ connections }) => plain(connections.open),
    },
    {
      name: 'guard_paused_connections',
      help: 'Connections not read from, because a message waits for a limit.',
      values: ({ connections }) => plain(connections.paused),
    },
  ],
};

/** Omits a guard whose statistics throw. */
export function guardStats(
  guards: readonly (readonly [name: string, guard: ObservableGuard])[],
): Labeled<GuardStats>[] {
  return guards.flatMap(([guard, observed]): Labeled<GuardStats>[] => {
    const stats = ifKnown(() => observed.getStats());
    return stats === null ? [] : [[{ guard }, stats]];
  });
}

function byReason(counts: CountsByReason): Value[] {
  return Object.entries(counts).map(([reason, total]) => [{ reason }, total]);
}
