// The result of all programs as aligned text.

import type { Program } from './programs.js';
import type { Outcome } from './simulate.js';

const HEAD = `\
Seconds until everything is served / requests refused / jobs lost. 200 callers; a request needs 20 to 60 ms to the
server, and the answer as long. The optimum is what the servers would allow.`;

export function table(
  results: readonly { program: Program; outcomes: readonly Outcome[] }[],
): string {
  const names = results[0]?.outcomes.map(({ contender }) => contender) ?? [];
  const rows = [
    ['program', 'optimum', ...names],
    ...results.map(({ program, outcomes }) => [
      program.name,
      `${program.optimumSeconds}`,
      ...outcomes.map(
        ({ seconds, refused, lost }) => `${seconds.toFixed(0)} / ${refused} / ${lost}`,
      ),
    ]),
  ];
  const widths = (rows[0] ?? []).map((_, at) =>
    Math.max(...rows.map((row) => row[at]?.length ?? 0)),
  );
  const lines = rows.map(([name = '', ...cells]) => {
    const padded = cells.map((cell, at) => cell.padStart(widths[at + 1] ?? 0));
    return [name.padEnd(widths[0] ?? 0), ...padded].join('  ');
  });
  return `${HEAD}\n\n${lines.join('\n')}`;
}
