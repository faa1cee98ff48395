// npm run bench: measures the cost of limiters, compared within one run. README.md describes the method, REPORT.md the
// results.

import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import type { Case } from './cases/case.js';
import { CASES, casesNamed } from './cases/index.js';
import { COMPLETE } from './contestants.js';
import { writeReport } from './report.js';
import { about, merged, type Result, type Results } from './results.js';
import { run, stopAll } from './run.js';
import { atPeers, textTable } from './table.js';

const USAGE = `npm run bench -- [options] [case or group of cases ...]

  --quick         fewer rounds; sizes above 100,000 peers only if a case has no smaller one
  --peers N       only this size
  --json FILE     write the results to FILE; results of other cases in it stay
  --report FILE   measure nothing: write bench/REPORT.md and its plots from the results in FILE

Cases (default: all):
${CASES.map(({ name, title }) => `  ${name.padEnd(14)}  ${title}`).join('\n')}
`;

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    quick: { type: 'boolean', default: false },
    peers: { type: 'string' },
    json: { type: 'string' },
    report: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
});

process.on('exit', stopAll);
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));

try {
  await main();
} catch (error) {
  console.error(`bench: ${error instanceof Error ? error.message : error}`);
  process.exitCode = 1;
}

async function main(): Promise<void> {
  if (options.help) {
    console.log(USAGE);
  } else if (options.report !== undefined) {
    writeReport(read(options.report), fileURLToPath(new URL('../../bench/', import.meta.url)));
  } else {
    await measure(positionals.length > 0 ? positionals.flatMap(casesNamed) : CASES);
  }
}

async function measure(cases: readonly Case[]): Promise<void> {
  const steps = cases.flatMap((benchCase) =>
    sizesOf(benchCase).map((peers) => ({ benchCase, peers })),
  );
  if (steps.length === 0) throw new Error(`no case has ${options.peers} peers`);
  const kept = options.json !== undefined && existsSync(options.json) ? read(options.json) : null;
  // A wrong file must fail before the measurements, not after them.
  if (kept !== null) merged(kept, { about: about(), results: [] });
  const started = performance.now();
  const results: Result[] = [];
  for (const [n, { benchCase, peers }] of steps.entries()) {
    const step = `${n + 1} of ${steps.length}: ${benchCase.name}${atPeers(peers)}`;
    const found = await run({
      benchCase,
      peers,
      rounds: options.quick ? Math.min(3, benchCase.rounds) : benchCase.rounds,
      progress(doing) {
        const minutes = ((performance.now() - started) / 60_000).toFixed(1);
        say(`[${minutes} min] ${step}, ${doing}`);
      },
    });
    say('');
    console.log(`\n${textTable(benchCase, peers, found)}`);
    results.push(...found);
    // A failure of our own limiters is an error. Other packages may fail, for example on a size they do not support.
    const ours = found.filter(({ contestant }) => COMPLETE.includes(contestant));
    if (ours.some(({ note }) => note !== undefined)) process.exitCode = 1;
    // After each step, so that an interrupted run keeps its results.
    if (options.json !== undefined) {
      const all = { about: about(), results };
      writeFileSync(
        options.json,
        `${JSON.stringify(kept === null ? all : merged(kept, all), null, 1)}\n`,
      );
    }
  }
}

function sizesOf({ sizes }: Case): readonly number[] {
  if (options.peers !== undefined) return sizes.filter((size) => size === Number(options.peers));
  if (!options.quick) return sizes;
  const few = sizes.filter((size) => size <= 100_000);
  return few.length > 0 ? few : sizes.slice(0, 1);
}

/** Prints progress: overwrites one line on a terminal, prints a new line elsewhere. */
function say(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
  else if (text !== '') process.stderr.write(`${text}\n`);
}

function read(file: string): Results {
  return JSON.parse(readFileSync(file, 'utf8'));
}
