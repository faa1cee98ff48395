// The live table: one row per second, at most 100 columns wide.

import type { RelayCounts } from '../relay.js';
import type { HonestProgress } from './messages.js';
import type { Second } from './phase.js';
import { integer, megabytes, milliseconds } from './units.js';

/** A second in which the relay has reported. `honest` is undefined if there are no honest peers. */
interface Reported {
  readonly second: Second;
  readonly counts: RelayCounts;
  readonly honest: HonestProgress | undefined;
}

interface Column {
  readonly title: string;
  readonly width: number;
  readonly cell: (now: Reported, before: Reported | undefined) => string;
}

const BEFORE: readonly Column[] = [
  { title: 'guard', width: 5, cell: ({ second }) => (second.guarded ? 'on' : 'off') },
  { title: 'sec', width: 3, cell: ({ second }) => integer(second.second) },
  { title: 'conns', width: 5, cell: ({ counts }) => integer(counts.connections) },
];
/** The columns with what honest peers have measured. */
const RECEIVED: readonly Column[] = [
  { title: 'honest/s', width: 8, cell: perSecond(({ honest }) => honest?.received.fromHonest) },
  { title: 'spam/s', width: 7, cell: perSecond(({ honest }) => honest?.received.fromAttackers) },
];
/** What the relay knows by itself. */
const RELAYED: readonly Column[] = [
  { title: 'in/s', width: 6, cell: perSecond(({ counts }) => counts.messagesIn) },
  { title: 'out/s', width: 7, cell: perSecond(({ counts }) => counts.delivered) },
];
const AFTER: readonly Column[] = [
  { title: 'delayed', width: 7, cell: ({ counts }) => integer(counts.delayed) },
  { title: 'closed', width: 6, cell: ({ counts }) => integer(counts.disconnected) },
  { title: 'refused', width: 7, cell: ({ counts }) => integer(counts.refused) },
  { title: 'bans', width: 4, cell: ({ counts }) => integer(counts.bans) },
];
const LATENCY: readonly Column[] = [
  { title: 'p50', width: 6, cell: ({ honest }) => milliseconds(honest?.latency.p50 ?? Number.NaN) },
  { title: 'p99', width: 6, cell: ({ honest }) => milliseconds(honest?.latency.p99 ?? Number.NaN) },
];
const END: readonly Column[] = [
  { title: 'memory', width: 6, cell: ({ counts }) => megabytes(counts.residentMemory) },
  { title: 'engine', width: 6, cell: ({ second }) => second.engine },
];

export const LEGEND = `
conns     connections open                   closed   peers expelled for breaking the rules (1008)
honest/s  messages of honest peers that      refused  connections not accepted (status 429)
          reached others, per second         bans     connections, nicks and addresses banned
spam/s    attackers' messages that did       p50 p99  delivery time between honest peers (-: none)
delayed   messages dropped by a limit
`;

export class Table {
  readonly #print: (line: string) => void;
  readonly #columns: readonly Column[];
  #before: Reported | undefined;

  /** @param honest whether there are honest peers that measure */
  constructor(print: (line: string) => void, honest = true) {
    this.#print = print;
    this.#columns = honest
      ? [...BEFORE, ...RECEIVED, ...AFTER, ...LATENCY, ...END]
      : [...BEFORE, ...RELAYED, ...AFTER, ...END];
  }

  header(): void {
    this.#before = undefined;
    this.#print(this.#line((column) => column.title));
  }

  row(second: Second): void {
    const { counts, honest } = second;
    if (counts === undefined) {
      const [guard, number] = [second.guarded ? 'on' : 'off', integer(second.second)];
      this.#print(`${guard.padStart(5)}  ${number.padStart(3)}  the relay did not answer`);
      return;
    }
    const now = { second, counts, honest };
    this.#print(this.#line((column) => column.cell(now, this.#before)));
    this.#before = now;
  }

  #line(cell: (column: Column) => string): string {
    return this.#columns.map((column) => cell(column).padStart(column.width)).join('  ');
  }
}

/** What a count has gained since the last row, per second: the relay may have been silent for some seconds. */
function perSecond(count: (reported: Reported) => number | undefined): Column['cell'] {
  return (now, before) => {
    const gained = (count(now) ?? 0) - (before === undefined ? 0 : (count(before) ?? 0));
    return integer(Math.round(gained / (now.second.second - (before?.second.second ?? 0))));
  };
}
