// The rows of the table of guards: each guard, and below it one row for each reason that it has counted.

import type { ListedGuard } from '../messages.js';

/** The numbers of a row. A reason has no connections of its own. */
export interface GuardRow {
  readonly guard: string;
  /** Undefined in the row of the guard itself. */
  readonly reason?: string;
  readonly open?: number;
  readonly paused?: number;
  readonly refused: number;
  readonly dropped: number;
  readonly closed: number;
}

export function guardRows(guards: readonly ListedGuard[]): GuardRow[] {
  return guards.flatMap(({ name, open, paused, refused, dropped, closed }) => {
    const reasons = new Set([refused, dropped, closed].flatMap((counts) => Object.keys(counts)));
    const rows = [...reasons].map((reason): GuardRow => {
      const of = (counts: Readonly<Record<string, number>>) => counts[reason] ?? 0;
      return {
        guard: name,
        reason,
        refused: of(refused),
        dropped: of(dropped),
        closed: of(closed),
      };
    });
    const sum = (counts: Readonly<Record<string, number>>) =>
      Object.values(counts).reduce((total, value) => total + value, 0);
    const whole: GuardRow = {
      guard: name,
      open,
      paused,
      refused: sum(refused),
      dropped: sum(dropped),
      closed: sum(closed),
    };
    const all = (row: GuardRow) => row.refused + row.dropped + row.closed;
    return [whole, ...rows.filter((row) => all(row) > 0).sort((a, b) => all(b) - all(a))];
  });
}
