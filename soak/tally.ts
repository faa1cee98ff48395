// Counts what a run has done, and formats progress and summary.

export class Tally {
  operations = 0;
  rounds = 0;
  keys = 0;
  bans = 0;
  evictions = 0;
  lossyEvictions = 0;
  refusedNewcomers = 0;
  snapshots = 0;
  /** Number of injected faults by kind. */
  readonly faults = new Map<string, number>();
  /** Errors thrown by ban listeners, and those of them that surfaced as uncaught exceptions; they must be equal. */
  thrown = 0;
  surfaced = 0;

  fault(kind: string): void {
    this.faults.set(kind, (this.faults.get(kind) ?? 0) + 1);
  }

  get faultsInjected(): number {
    return [...this.faults.values()].reduce((sum, count) => sum + count, 0);
  }
}

const COLUMNS: readonly [title: string, width: number, cell: (tally: Tally) => number][] = [
  ['operations', 13, ({ operations }) => operations],
  ['keys', 11, ({ keys }) => keys],
  ['bans', 9, ({ bans }) => bans],
  ['evictions', 11, ({ evictions }) => evictions],
  ['snapshots', 9, ({ snapshots }) => snapshots],
  ['faults', 9, ({ faultsInjected }) => faultsInjected],
  ['MB', 6, () => process.memoryUsage.rss() / 2 ** 20],
];

export const HEADER = [
  '    s',
  ...COLUMNS.map(([title, width]) => title.padStart(width)),
  ' now',
].join(' ');

/** One line of progress. */
export function progress(tally: Tally, seconds: number, now: string): string {
  const cells = COLUMNS.map(([, width, cell]) => integer(cell(tally)).padStart(width));
  return [integer(seconds).padStart(5), ...cells, ` ${now}`].join(' ');
}

export function summary(tally: Tally, seconds: number): string {
  const faults = [...tally.faults].sort().map(([kind, count]) => [`  ${kind}`, count] as const);
  const rows: (readonly [string, number])[] = [
    ['operations', tally.operations],
    ['operations per second', tally.operations / seconds],
    ['rounds', tally.rounds],
    ['keys', tally.keys],
    ['bans begun', tally.bans],
    ['evictions', tally.evictions],
    ['  lossy', tally.lossyEvictions],
    ['newcomers refused', tally.refusedNewcomers],
    ['snapshots restored', tally.snapshots],
    ['faults injected', tally.faultsInjected],
    ...faults,
  ];
  return rows
    .map(([what, count]) => `${what.padEnd(30)} ${integer(count).padStart(15)}`)
    .join('\n');
}

function integer(n: number): string {
  return Math.round(n).toLocaleString('en-US');
}
