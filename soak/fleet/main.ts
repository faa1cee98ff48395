// npm run soak:fleet: lets faults happen to a fleet of processes and real stores, and looks in all intervals whether more
// was admitted than the bound. docs/design/fleet.md has the results.

import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { failed, parseFlags, WrongFlag } from '../../examples/command-line.js';
import { findServer, INSTALL_ADVICE } from '../../examples/fleet/server.js';
import { INTERRUPTED, interruption } from '../../examples/interruption.js';
import { verdictOf } from './outcome.js';
import { ROWS } from './rows.js';
import { type Run, runOnce, runsOf } from './runs.js';
import { ShiftedClocks } from './shifted-clocks.js';
import { type Result, textTable, withResults } from './table.js';

const DOCUMENT = fileURLToPath(new URL('../../../docs/design/fleet.md', import.meta.url));

const HELP = `Lets faults happen to three processes of one limit and their store, under load, and compares what
was admitted with burst + rate x time in every interval.

usage: npm run soak:fleet -- [flags]

  --only TEXT   runs only the faults whose names contain TEXT
  --limiter L   runs only those with a SharedRateLimiter (rate) or a SharedRuleLimiter (rules)
  --write       writes the results into the table of docs/design/fleet.md, unless something has failed
  --help        prints this text

Needs redis-server or valkey-server. Faults that set clocks need Linux and a C++ compiler, and are left
out without them. A run takes 5 to 15 seconds, all of them about twenty minutes.
Exit code: 0; 1 if more was admitted than documented, or nothing after a fault; 2 for a wrong flag.`;

interface Flags {
  only: string;
  limiter: string;
  write: boolean;
  help: boolean;
}

function readFlags(args: string[]): Flags {
  const flags = parseFlags(args, {
    only: { type: 'string', default: '' },
    limiter: { type: 'string', default: '' },
    write: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false },
  });
  if (!ROWS.some(({ name }) => name.includes(flags.only))) {
    throw new WrongFlag(`--only takes a part of a fault's name, not "${flags.only}"`);
  }
  if (!['', 'rate', 'rules'].includes(flags.limiter)) {
    throw new WrongFlag(`--limiter takes rate or rules, not "${flags.limiter}"`);
  }
  return flags;
}

async function main(): Promise<number> {
  let clocks: ShiftedClocks | undefined;
  try {
    const flags = readFlags(process.argv.slice(2));
    if (flags.help) {
      console.log(HELP);
      return 0;
    }
    clocks = ShiftedClocks.create();
    return await soak(flags, clocks);
  } catch (error) {
    if (interruption.aborted) return INTERRUPTED;
    return failed('soak:fleet', 'npm run soak:fleet -- --help lists the flags', error);
  } finally {
    clocks?.close();
  }
}

async function soak(flags: Flags, clocks: ShiftedClocks | undefined): Promise<number> {
  const program = findServer();
  if (program === undefined) throw new Error(`no redis-server: ${INSTALL_ADVICE}`);
  const all = ROWS.filter(({ name }) => name.includes(flags.only))
    .flatMap(runsOf)
    .filter(({ limit }) => limit.limiter.startsWith(flags.limiter));
  const runs = all.filter(({ row }) => clocks !== undefined || row.clocksOf === undefined);
  const results: Result[] = [];
  const errors: string[] = [];
  for (const [at, run] of runs.entries()) {
    const { limiter, mode, onStoreFailure: policy } = run.limit;
    const name = [run.row.name, limiter, mode, policy].join(', ');
    process.stdout.write(`${String(at + 1).padStart(3)}/${runs.length}  ${name} ... `);
    console.log(await attempt(run));
  }
  console.log(`\n${textTable(results)}\n`);
  const left = all.length - runs.length;
  if (left > 0)
    console.log(`left out: ${left} runs with clocks that are set, which this machine cannot do`);
  for (const error of errors) console.error(error);
  if (flags.write && errors.length === 0) {
    const names = ROWS.map(({ name }) => name);
    writeFileSync(DOCUMENT, withResults(readFileSync(DOCUMENT, 'utf8'), results, names));
  }
  return errors.length === 0 ? 0 : 1;

  async function attempt(run: Run): Promise<string> {
    const { limiter, mode, onStoreFailure: policy } = run.limit;
    const name = `${run.row.name} (${limiter}, ${mode}, ${policy})`;
    try {
      const outcome = await runOnce({ program: program as string, clocks }, run);
      results.push({ row: run.row.name, limiter, mode, policy, outcome });
      const verdict = verdictOf(outcome);
      if (verdict === 'above') errors.push(`${name}: more was admitted than documented`);
      return verdict;
    } catch (error) {
      interruption.throwIfAborted();
      errors.push(`${name}: ${(error as Error).message}`);
      return 'failed';
    }
  }
}

process.exitCode = await main();
