// The live table: one row per second, at most 100 columns wide.

import type { Second } from './phase.js';
import { integer, megabytes, milliseconds } from './units.js';

interface Column {
  readonly title: string;
  readonly width: number;
  readonly cell: (now: Second, before: Second | undefined) => string;
}

const COLUMNS: readonly Column[] = [
  { title: 'guard', width: 5, cell: (now) => (now.guarded ? 'on' : 'off') },
  { title: 'sec', width: 3, cell: (now) => integer(now.second) },
  { title: 'conns', width: 5, cell: (now) => integer(now.counts.connections) },
  { title: 'in/s', width: 6, cell: gained('messagesIn') },
  { title: 'out/s', width: 7, cell: gained('delivered') },
  { title: 'delayed', width: 7, cell: (now) => integer(now.counts.delayed) },
  { title: 'closed', width: 6, cell: (now) => integer(now.counts.disconnected) },
  { title: 'refused', width: 7, cell: (now) => integer(now.counts.refused) },
  { title: 'bans', width: 4, cell: (now) => integer(now.counts.bans) },
  { title: 'p50', width: 6, cell: (now) => milliseconds(now.latency.p50) },
  { title: 'p99', width: 6, cell: (now) => milliseconds(now.latency.p99) },
  { title: 'memory', width: 6, cell: (now) => megabytes(now.counts.residentMemory) },
  { title: 'engine', width: 6, cell: (now) => now.engine },
];

export const LEGEND = `
conns    connections open               closed   peers expelled for breaking the rules (1008)
in/s     messages received per second   refused  connections not accepted (status 429)
out/s    messages delivered per second  bans     connections, nicks and addresses banned
delayed  messages dropped by a limit    p50 p99  delivery time between honest peers (-: none)
`;

export class Table {
  readonly #print: (line: string) => void;
  #before: Second | undefined;

  constructor(print: (line: string) => void) {
    this.#print = print;
  }

  header(): void {
    this.#before = undefined;
    this.#print(line((column) => column.title));
  }

  row(second: Second): void {
    this.#print(line((column) => column.cell(second, this.#before)));
    this.#before = second;
  }
}

function gained(count: 'messagesIn' | 'delivered'): Column['cell'] {
  return (now, before) => integer(now.counts[count] - (before?.counts[count] ?? 0));
}

function line(cell: (column: Column) => string): string {
  return COLUMNS.map((column) => cell(column).padStart(column.width)).join('  ');
}
