// Runs a case: a process for each contestant, which take turns, so that what else the machine does
// meanwhile meets them all.

import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { Case, Round } from './cases/case.js';
import { type Result, spread } from './results.js';

const WORKER = fileURLToPath(new URL('worker.js', import.meta.url));
// Ten million objects in a Map are more than V8 takes by itself.
const FLAGS = ['--expose-gc', '--max-old-space-size=16000'];

/** One case at one size. */
export interface Step {
  question: Case;
  peers: number;
  rounds: number;
  /** Told what is being done. */
  progress(doing: string): void;
}

type Answer = { ready: true } | { round: Round } | { failed: string };

interface Contestant {
  name: string;
  rounds: Round[];
  note?: string;
}

export async function run(step: Step): Promise<Result[]> {
  const names = step.question.contestants(step.peers);
  const contestants = names.map((name): Contestant => ({ name, rounds: [] }));
  await (step.question.fresh ? runAfresh : runInTurns)(step, contestants);
  return contestants.map((contestant) => resultOf(step, contestant));
}

async function runInTurns(step: Step, contestants: Contestant[]): Promise<void> {
  step.progress('getting ready');
  const children = await Promise.all(
    contestants.map(async (contestant) => ({ contestant, child: await start(step, contestant) })),
  );
  for (let n = 1; n <= step.rounds; n += 1) {
    for (const { contestant, child } of children) {
      step.progress(`round ${n} of ${step.rounds}, ${contestant.name}`);
      await oneRound(contestant, child);
    }
  }
  for (const { child } of children) await stop(child);
}

async function runAfresh(step: Step, contestants: Contestant[]): Promise<void> {
  for (let n = 1; n <= step.rounds; n += 1) {
    for (const contestant of contestants) {
      step.progress(`round ${n} of ${step.rounds}, ${contestant.name}`);
      const child = await start(step, contestant);
      await oneRound(contestant, child);
      await stop(child);
    }
  }
}

/** The contestant's process, once it is ready; undefined, and a note made, where it cannot be. */
async function start(
  { question, peers }: Step,
  contestant: Contestant,
): Promise<ChildProcess | undefined> {
  if (contestant.note !== undefined) return undefined;
  const child = fork(WORKER, [question.name, contestant.name, String(peers)], {
    execArgv: [...FLAGS, ...(question.flags ?? [])],
  });
  const answer = await next(child);
  if ('ready' in answer) return child;
  if ('failed' in answer) contestant.note = answer.failed;
  await stop(child);
  return undefined;
}

/** Without its parent a process ends by itself. */
async function stop(child: ChildProcess | undefined): Promise<void> {
  if (child?.connected) child.disconnect();
  if (child?.exitCode === null && child.signalCode === null) await once(child, 'exit');
}

async function oneRound(contestant: Contestant, child: ChildProcess | undefined): Promise<void> {
  if (child === undefined || contestant.note !== undefined) return;
  child.send('round');
  const answer = await next(child);
  if ('round' in answer) contestant.rounds.push(answer.round);
  if ('failed' in answer) contestant.note = answer.failed;
}

function next(child: ChildProcess): Promise<Answer> {
  return new Promise((resolve) => {
    const exited = (code: number | null, signal: string | null) => {
      child.off('message', answered);
      resolve({ failed: `its process ended (${signal ?? code})` });
    };
    const answered = (answer: Answer) => {
      child.off('exit', exited);
      resolve(answer);
    };
    child.once('exit', exited);
    child.once('message', answered as (message: unknown) => void);
  });
}

function resultOf({ question, peers }: Step, { name, rounds, note }: Contestant): Result {
  const figures: Result['figures'] = {};
  // Who failed in one round was perhaps wrong in those before.
  const measured = note === undefined && rounds.length > 0;
  for (const metric of measured ? question.metrics : []) {
    figures[metric.name] = spread(rounds.map((round) => round.figures[metric.name] ?? Number.NaN));
  }
  const curve = rounds.at(-1)?.curve;
  return {
    case: question.name,
    peers,
    contestant: name,
    figures,
    ...(curve && { curve }),
    ...(note !== undefined && { note }),
  };
}
