// The live progress: redrawn in place on a terminal, printed at intervals elsewhere.

import { announcement } from './nodes.js';
import type { Progress } from './phase.js';

const COLUMNS: readonly [head: string, width: number][] = [
  ['node', 4],
  ['it says', 8],
  ['sent', 6],
  ['refused', 7],
  ['waiting', 8],
  ['next window', 11],
];

/** Draws the progress until the returned function is called. */
export function watch(
  title: string,
  output: NodeJS.WriteStream,
): (progress: Progress) => () => void {
  return (progress) => {
    const lines = () => [
      `${title}: ${progress.done} of ${progress.requests}, ${progress.client.waiting()} waiting`,
      ...table(progress),
    ];
    const rewind = output.isTTY ? `\x1b[${lines().length}A\x1b[J` : '';
    const draw = (before: string) => output.write(`${before}${lines().join('\n')}\n`);
    draw('');
    const timer = setInterval(() => draw(rewind), output.isTTY ? 100 : 3000);
    return () => {
      clearInterval(timer);
      draw(rewind);
      output.write('\n');
    };
  };
}

function table({ servers, client }: Progress): string[] {
  const rows = servers.map(({ spec, origin }) => {
    const { sent, refused, windowEndsAt } = client.tally.node(origin);
    return [
      spec.name,
      announcement(spec),
      String(sent),
      String(refused),
      seconds(client.waitSeconds(origin)),
      windowEndsAt === undefined ? '-' : seconds((windowEndsAt - performance.now()) / 1000),
    ];
  });
  return [COLUMNS.map(([head]) => head), ...rows].map(line);
}

function line(cells: readonly string[]): string {
  const padded = cells.map((cell, at) => {
    const [head, width] = COLUMNS[at] ?? ['', 0];
    const least = Math.max(width, head.length);
    return at < 2 ? cell.padEnd(least) : cell.padStart(least);
  });
  return `  ${padded.join('  ')}`;
}

function seconds(value: number): string {
  return value < 1 ? `${Math.ceil(Math.max(0, value) * 1000)} ms` : `${value.toFixed(1)} s`;
}
