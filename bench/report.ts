// Writes REPORT.md and its plots from results. The report also lists the comparisons that native does not win.

import { mkdirSync, writeFileSync } from 'node:fs';
import type { Case, Metric } from './cases/case.js';
import { CASES, caseNamed } from './cases/index.js';
import { FLOOR, MAP, NATIVE, OTHERS } from './contestants.js';
import { type Line, type Plot, svg } from './plot.js';
import { type About, type Result, type Results, type Spread, timesAsGood } from './results.js';
import { atPeers, number, peersIn, ratio } from './table.js';

export function writeReport({ about, results }: Results, folder: string): void {
  mkdirSync(`${folder}plots`, { recursive: true });
  const plots = plotsOf(results);
  for (const [name, plot] of Object.entries(plots)) {
    writeFileSync(`${folder}plots/${name}.svg`, svg(plot));
  }
  const sections = [
    head(about, results),
    overview(results),
    pictures(plots),
    losses(results),
    ...tables(results),
  ];
  writeFileSync(`${folder}REPORT.md`, `${sections.join('\n\n')}\n`);
}

function head({ machine, system, node, packages }: About, results: Result[]): string {
  const versions = Object.entries(packages).map(([name, version]) => `${name} ${version}`);
  const dates = [...new Set(results.map(({ date }) => date))].sort();
  const rounds = results.map((result) => result.rounds).filter((count) => count > 0);
  return `# What it costs

Made by \`npm run bench -- --json bench/results.json\` and \`npm run bench -- --report bench/results.json\`.
[README.md](README.md) describes the method. Figures are medians, with the lowest and the highest round. Compare
them only within one table, whose contestants took turns on one machine. A ratio is the median of the ratios of
the rounds.

| | |
|---|---|
| date | ${dates.join(', ')} |
| machine | ${machine} |
| system | ${system} |
| Node | ${node} |
| packages | ${versions.join(', ')} |
| rounds | ${Math.min(...rounds)} to ${Math.max(...rounds)} |`;
}

/** Compares native with others, one row per case. */
function overview(results: Result[]): string {
  const compared = results.filter(({ contestant }) => contestant === NATIVE);
  const sizes = [...new Set(compared.map(({ peers }) => peers))].sort((a, b) => a - b);
  const against = (benchCase: Case, other: string) =>
    sizes.map((peers) => {
      const [main] = benchCase.metrics as [Metric];
      const theirs = figure(results, benchCase, peers, other, main);
      const native = figure(results, benchCase, peers, NATIVE, main);
      return ratio(theirs, native);
    });
  const rows = CASES.map((benchCase) => [
    `\`${benchCase.name}\` ${benchCase.title}`,
    ...against(benchCase, MAP),
  ]);
  const allowed = caseNamed('allowed');
  for (const other of [...OTHERS, FLOOR]) {
    rows.push([`\`allowed\` against ${other}`, ...against(allowed, other)]);
  }
  const shown = rows.filter(([, ...cells]) => cells.some((cell) => cell !== ''));
  return `## Native against a plain Map, and others

Native compared with the plain Map, by number of peers: 2x means half the time, or half the memory. The last rows
compare native with other contestants. The crossing floor is the lowest possible cost of a native limiter: 0.5x means
that a check costs twice as much.

${markdown(['', ...sizes.map((size) => size.toLocaleString('en'))], shown)}`;
}

function pictures(plots: Record<string, Plot>): string {
  return Object.entries(plots)
    .map(([name, { title }]) => `![${title}](plots/${name}.svg)`)
    .join('\n\n');
}

/** Returns the plots for which there are results. */
function plotsOf(results: Result[]): Record<string, Plot> {
  const plots: Record<string, Plot> = {
    cost: {
      title: 'A check by key, and of an opened peer',
      x: 'peers',
      y: 'ns',
      lines: [
        ...lines(results, 'allowed', 'ns'),
        ...lines(results, 'opened', 'ns')
          .filter(({ name }) => name === NATIVE)
          .map((line) => ({ ...line, name: 'native, opened' })),
        ...lines(results, 'group-1024', 'ns')
          .filter(({ name }) => name === NATIVE)
          .map((line) => ({ ...line, name: 'native, in a group' })),
      ],
    },
    pause: {
      title: 'Longest pause while peers arrive',
      x: 'peers at the end',
      y: 'ms',
      lines: [
        ...lines(results, 'growth', 'pause'),
        ...lines(results, 'growth', 'control')
          .filter(({ name }) => name === NATIVE)
          .map((line) => ({ ...line, name: 'machine itself' })),
      ],
    },
    bytes: {
      title: 'Resident memory per peer, keys of 21 characters',
      x: 'peers',
      y: 'bytes',
      lines: results
        .filter((result) => result.case === 'memory-21' && result.curve)
        .map(({ contestant, curve = [] }) => ({ name: contestant, points: curve })),
    },
  };
  return Object.fromEntries(Object.entries(plots).filter(([, { lines }]) => lines.length > 0));
}

function lines(results: Result[], name: string, metric: string): Line[] {
  const of = results.filter((result) => result.case === name && result.figures[metric]);
  return [...new Set(of.map(({ contestant }) => contestant))].map((contestant) => ({
    name: contestant,
    points: of
      .filter((result) => result.contestant === contestant)
      .sort((a, b) => a.peers - b.peers)
      .map(({ peers, figures }): [number, number] => [peers, figures[metric]?.median ?? 0]),
  }));
}

/** Lists every comparison that native does not win. */
function losses(results: Result[]): string {
  const found: string[] = [];
  for (const benchCase of CASES) {
    for (const peers of sizesOf(results, benchCase)) {
      for (const metric of benchCase.metrics) {
        const native = figure(results, benchCase, peers, NATIVE, metric);
        if (native === undefined || metric.aside) continue;
        for (const { contestant } of of(results, benchCase, peers)) {
          const other = figure(results, benchCase, peers, contestant, metric);
          if (contestant === FLOOR || other === undefined) continue;
          if (!(timesAsGood(other, native) < 1 && native.median > other.median)) continue;
          const figures = `${number(native.median)} against ${number(other.median)} ${metric.unit}`;
          const what = benchCase.metrics.length > 1 ? `, ${metric.label}` : '';
          found.push(`- ${benchCase.title}${what}${atPeers(peers)}: ${contestant} (${figures})`);
        }
      }
    }
  }
  return `## Where native does not win

${found.length > 0 ? found.join('\n') : 'Nowhere in this run.'}`;
}

function tables(results: Result[]): string[] {
  return CASES.flatMap((benchCase) => {
    const sizes = sizesOf(results, benchCase);
    if (sizes.length === 0) return [];
    const parts = sizes.map((peers) => table(benchCase, peers, of(results, benchCase, peers)));
    return [`## \`${benchCase.name}\`: ${benchCase.title}\n\n${parts.join('\n\n')}`];
  });
}

function table(benchCase: Case, peers: number, results: Result[]): string {
  const [main] = benchCase.metrics as [Metric];
  const map = results.find(({ contestant }) => contestant === MAP)?.figures[main.name];
  const rows = results.map(({ contestant, figures, note }) => {
    if (figures[main.name] === undefined) return [contestant, `not measured: ${note}`];
    const cells = benchCase.metrics.map(({ name }) => {
      const spread = figures[name];
      const { low, median, high } = spread ?? { low: null, median: null, high: null };
      return low === high ? number(median) : `${number(median)} (${number(low)} - ${number(high)})`;
    });
    return [contestant, ...cells, ratio(map, figures[main.name])];
  });
  const heads = benchCase.metrics.map(({ label, unit }) => `${label}, ${unit}`);
  return markdown([peersIn(peers), ...heads, map === undefined ? '' : 'against the Map'], rows);
}

/** Returns the sizes that were measured. */
function sizesOf(results: Result[], benchCase: Case): number[] {
  const of = results.filter((result) => result.case === benchCase.name);
  return [...new Set(of.map(({ peers }) => peers))].sort((a, b) => a - b);
}

function of(results: Result[], benchCase: Case, peers: number): Result[] {
  return results.filter((result) => result.case === benchCase.name && result.peers === peers);
}

function figure(
  results: Result[],
  benchCase: Case,
  peers: number,
  contestant: string,
  metric: Metric,
): Spread | undefined {
  const found = of(results, benchCase, peers).find((result) => result.contestant === contestant);
  return found?.figures[metric.name];
}

function markdown(heads: string[], rows: string[][]): string {
  const line = (cells: string[]) => `| ${cells.join(' | ')} |`;
  const rule = `|${heads.map((_, i) => (i === 0 ? '---' : '---:')).join('|')}|`;
  const full = rows.map((row) => [...row, ...Array(heads.length - row.length).fill('')]);
  return [line(heads), rule, ...full.map(line)].join('\n');
}
