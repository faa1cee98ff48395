// The results of all runs as a table: as aligned text, and in docs/design/fleet.md.

import type { FailurePolicy } from 'relay-limiter/redis';
import type { FleetLimit } from './messages.js';
import { type Outcome, type Verdict, verdictOf } from './outcome.js';

export interface Result {
  readonly row: string;
  readonly limiter: FleetLimit['limiter'];
  readonly mode: FleetLimit['mode'];
  readonly policy: FailurePolicy;
  readonly outcome: Outcome;
}

const HEAD = [
  'fault',
  'limiter',
  'mode',
  'policy',
  'admitted',
  'bound',
  'highest excess',
  'verdict',
];
/** Columns with numbers. */
const RIGHT = [4, 5, 6];

/** The lines of docs/design/fleet.md between which the table is. */
const BEGIN = '<!-- Made by `npm run soak:fleet -- --write`. -->';
const END = '<!-- End of the table. -->';

export function textTable(results: readonly Result[]): string {
  const rows = [HEAD, ...results.map(cells)];
  const widths = HEAD.map((_, at) => Math.max(...rows.map((row) => (row[at] as string).length)));
  const line = (row: string[]) => {
    const padded = row.map((cell, at) => {
      const width = widths[at] as number;
      return RIGHT.includes(at) ? cell.padStart(width) : cell.padEnd(width);
    });
    return padded.join('  ').trimEnd();
  };
  return rows.map(line).join('\n');
}

/**
 * Returns a document whose table has these results, and of what was not run those that it had. `order`: the
 * names of all faults. @throws if the document has no place for a table.
 */
export function withResults(
  document: string,
  results: readonly Result[],
  order: readonly string[],
): string {
  const [begin, end] = [document.indexOf(BEGIN), document.indexOf(END)];
  if (begin < 0 || end < begin) throw new Error(`the document has no lines ${BEGIN} and ${END}`);
  const lines = new Map<string, string>();
  const old = document
    .slice(begin, end)
    .split('\n')
    .filter((text) => text.startsWith('| '));
  for (const line of [...old.slice(1), ...results.map((one) => markdownLine(cells(one)))]) {
    lines.set(line.split('|').slice(1, 5).join('|'), line);
  }
  const place = (line: string) => order.indexOf(line.split(' | ')[0]?.slice(2) as string);
  const body = [...lines.values()].filter((line) => place(line) >= 0);
  body.sort((a, b) => place(a) - place(b));
  const rule = HEAD.map((_, at) => (RIGHT.includes(at) ? '---:' : '---'));
  const table = [markdownLine(HEAD), `|${rule.join('|')}|`, ...body].join('\n');
  return `${document.slice(0, begin + BEGIN.length)}\n\n${table}\n\n${document.slice(end)}`;
}

function markdownLine(row: readonly string[]): string {
  return `| ${row.join(' | ')} |`;
}

function cells({ row, limiter, mode, policy, outcome }: Result): string[] {
  const { admitted, bound, excess, allowed } = outcome;
  const words: Record<Verdict, string> = {
    holds: 'holds',
    documented: `above, at most ${allowed.toFixed(0)} documented`,
    above: 'FAULT: above',
    'no bound': 'no bound promised',
  };
  const highest = excess > 0 ? excess.toFixed(1) : 'none';
  return [
    row,
    limiter,
    mode,
    policy,
    String(admitted),
    bound.toFixed(0),
    highest,
    words[verdictOf(outcome)],
  ];
}
