// npm run soak: runs a flood, then rounds of hostile calls until the time is over or the number of operations is reached.
// docs/security.md describes what is promised and the results.

import { setImmediate } from 'node:timers/promises';
import type { EngineName } from 'relay-limiter';
import { failed } from '../examples/command-line.js';
import { INTERRUPTED, interruption } from '../examples/interruption.js';
import { type Flags, HELP, readFlags } from './flags.js';
import { Flood } from './flood.js';
import { grew, type Memory, memory, showMemory } from './memory.js';
import { Difference } from './model/model.js';
import { ListenerFault, Round } from './round.js';
import { RuleRound } from './rule-round.js';
import { HEADER, progress, summary, Tally } from './tally.js';

const OPERATIONS_PER_ROUND = 100_000;
/** Operations between two checks of the time. */
const OPERATIONS_PER_SLICE = 4000;
/** Rounds after which memory use is stable. A shorter run takes its first sample after half of the run. */
const WARM_UP_ROUNDS = 40;

const tally = new Tally();
const started = performance.now();
/** The start of the rounds: `--seconds` does not include the flood. */
let roundsStarted = started;
let shownAt = 0;

process.on('uncaughtException', (error) => {
  if (error instanceof ListenerFault) {
    tally.surfaced += 1;
    return;
  }
  console.error(error);
  process.exit(1);
});

async function main(): Promise<number> {
  try {
    const flags = readFlags(process.argv.slice(2));
    if (flags.help) {
      console.log(HELP);
      return 0;
    }
    return await soak(flags);
  } catch (error) {
    return failed('soak', 'npm run soak -- --help lists the flags', error);
  }
}

async function soak(flags: Flags): Promise<number> {
  const length =
    flags.operations === undefined ? `${flags.seconds} seconds` : `${flags.operations} operations`;
  console.log(`seed ${flags.seed}, ${length}\n\n${HEADER}`);
  if (flags.round !== undefined) await round(flags, flags.round, true);
  else await everything(flags);
  if (tally.thrown !== tally.surfaced) {
    throw new Difference(`of ${tally.thrown} errors of ban listeners ${tally.surfaced} surfaced`);
  }
  console.log(`\n${summary(tally, elapsed(roundsStarted))}`);
  if (interruption.aborted) return INTERRUPTED;
  console.log('\nno difference');
  return 0;
}

async function everything(flags: Flags): Promise<void> {
  for (const engine of flags.engines) {
    if (flags.floodSeconds > 0) await flood(engine, flags.floodSeconds);
  }
  roundsStarted = performance.now();
  let warm: { rounds: number; has: Memory } | undefined;
  for (let n = 0; n === 0 || !isOver(flags); n += 1) {
    // The first round is always complete, even if the time is over.
    await round(flags, n, n === 0 && flags.operations === undefined);
    const isWarm = n + 1 === WARM_UP_ROUNDS || shareDone(flags) >= 0.5;
    if (isWarm) warm ??= { rounds: n + 1, has: memory() };
  }
  if (warm === undefined || warm.rounds === tally.rounds) {
    console.log('\nmemory: not compared, there were too few rounds');
  } else compareMemory(warm.rounds, warm.has);
}

async function flood(engine: EngineName, seconds: number): Promise<void> {
  const attack = new Flood(engine, seconds);
  const before = tally.keys;
  while (attack.slice() && !interruption.aborted) {
    tally.keys = before + attack.keys;
    await yieldAndReport(`a flood, ${engine}`);
  }
  const { keys, afterMinute, atEnd } = attack.end();
  tally.keys = before + keys;
  console.log(
    `      flood of ${keys.toLocaleString('en-US')} keys, ${engine}: ` +
      `${showMemory(afterMinute)} after a minute of it, ${showMemory(atEnd)} at its end`,
  );
}

async function round(flags: Flags, n: number, whole: boolean): Promise<void> {
  const [first, second = first] = flags.engines as [EngineName, EngineName?];
  const [engine, otherEngine] = n % 2 === 0 ? [first, second] : [second, first];
  // Multiplied, so that two neighbouring seeds do not share rounds.
  const seed = (Math.imul(flags.seed, 0x9e3779b1) + n) >>> 0;
  const options = { seed, engine, otherEngine, throwingListener: true };
  // Two of eight rounds, one for each engine.
  const current =
    n % 8 === 2 || n % 8 === 3 ? new RuleRound(options, tally) : new Round(options, tally);
  try {
    const end = tally.operations + OPERATIONS_PER_ROUND;
    const isCut = () => (whole ? interruption.aborted : isOver(flags));
    while (tally.operations < end && !isCut()) {
      current.run(OPERATIONS_PER_SLICE);
      await yieldAndReport(`${current.subject.name}, ${current.limiter.engine}`);
    }
    current.end();
    tally.rounds += 1;
  } catch (error) {
    console.error(`\nthe last operations, the latest at the bottom:\n${current.describe()}\n`);
    console.error(`to repeat them: npm run soak -- --seed ${flags.seed} --round ${n}\n`);
    throw error;
  }
}

/** Yields to the event loop, so that errors surface and signals arrive, and prints progress once per second. */
async function yieldAndReport(now: string): Promise<void> {
  await setImmediate();
  if (elapsed() < shownAt + 1) return;
  shownAt = elapsed();
  console.log(progress(tally, elapsed(), now));
}

function compareMemory(rounds: number, warm: Memory): void {
  const atEnd = memory();
  console.log(
    `\nmemory: ${showMemory(warm)} after ${rounds} rounds, ${showMemory(atEnd)} at the end`,
  );
  if (grew(warm, atEnd)) throw new Difference('the process grew');
}

function isOver(flags: Flags): boolean {
  return interruption.aborted || shareDone(flags) >= 1;
}

/** Returns the completed part of the run, by operations or by time, as a number from 0. */
function shareDone({ operations, seconds }: Flags): number {
  return operations === undefined
    ? elapsed(roundsStarted) / seconds
    : tally.operations / operations;
}

function elapsed(since = started): number {
  return (performance.now() - since) / 1000;
}

process.exitCode = await main();
