// The result of all programs as aligned text.

import type { Program } from './programs.js';
import type { Outcome } from './simulate.js';

const HEAD = `\
Seconds until everything is served / requests refused / jobs lost. 200 callers; a request needs 20 to 60 ms to the
server, and the answer as long. The optimum is what the servers would allow.`;

export function table(
  results: readonly { program: Program; outcomes: readonly Outcome[] }[],
): string {
  // Not all contenders run all programs.
  const all = results.flatMap(({ outcomes }) => outcomes.map(({ contender }) => contender));
  const names = [...new Set(all)];
  const cell = (outcome: Outcome | undefined) => {
    if (outcome === undefined) return '-';
    const { seconds, refused, lost } = outcome;
    return `${seconds.toFixed(0)} / ${refused} / ${lost}`;
  };
  const rows = [
    ['program', 'optimum', ...names],
    ...results.map(({ program, outcomes }) => [
      program.name,
      `${program.optimumSeconds}`,
      ...names.map((name) => cell(outcomes.find(({ contender }) => contender === name))),
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
