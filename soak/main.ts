// npm run soak: a flood, then rounds of hostile calls until the time is over, or so many are done. docs/reliability.md says
// what is promised and what came of it.

import { setImmediate } from 'node:timers/promises';
import type { EngineName } from 'relay-limiter';
import { failed } from '../examples/command-line.js';
import { INTERRUPTED, interruption } from '../examples/interruption.js';
import { type Flags, HELP, readFlags } from './flags.js';
import { Flood } from './flood.js';
import { grew, type Memory, memory, showMemory } from './memory.js';
import { Difference } from './model/model.js';
import { ListenerFault, Round } from './round.js';
import { HEADER, progress, summary, Tally } from './tally.js';

/** Operations of a round, and between two looks at the time. */
const ROUND = 100_000;
const SLICE = 4000;
/** Rounds after which memory has been everywhere once; a short run compares its second half. */
const WARM_UP_ROUNDS = 40;

const tally = new Tally();
const started = performance.now();
/** The time that a run is given is for its rounds. */
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
    // The first one is whole, however little time there is.
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
    await look(`a flood, ${engine}`);
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
  // Neighbouring seeds of one run must not be those of the next.
  const seed = (Math.imul(flags.seed, 0x9e3779b1) + n) >>> 0;
  const current = new Round({ seed, engine, otherEngine, throwingListener: true }, tally);
  try {
    const end = tally.operations + ROUND;
    const isCut = () => (whole ? interruption.aborted : isOver(flags));
    while (tally.operations < end && !isCut()) {
      current.run(SLICE);
      await look(`${current.subject.name}, ${current.asked.engine}`);
    }
    current.end();
    tally.rounds += 1;
  } catch (error) {
    console.error(`\nthe last operations, the latest at the bottom:\n${current.story()}\n`);
    console.error(`npm run soak -- --seed ${flags.seed} --round ${n} does them again\n`);
    throw error;
  }
}

/** Lets errors surface and signals in, and shows progress once a second. */
async function look(now: string): Promise<void> {
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

/** The share of the operations that are done, or of the time that is over. */
function shareDone({ operations, seconds }: Flags): number {
  return operations === undefined
    ? elapsed(roundsStarted) / seconds
    : tally.operations / operations;
}

function elapsed(since = started): number {
  return (performance.now() - since) / 1000;
}

process.exitCode = await main();
