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

export type Progress = (step: string) => void;

type Answer = { ready: true } | { round: Round } | { failed: string };

interface Contestant {
  name: string;
  rounds: Round[];
  note?: string;
}

export async function run(
  question: Case,
  peers: number,
  rounds: number,
  progress: Progress,
): Promise<Result[]> {
  const contestants = question.contestants(peers).map((name): Contestant => ({ name, rounds: [] }));
  await (question.fresh ? runAfresh : runInTurns)(question, peers, contestants, rounds, progress);
  return contestants.map((contestant) => resultOf(question, peers, contestant));
}

async function runInTurns(
  question: Case,
  peers: number,
  contestants: Contestant[],
  rounds: number,
  progress: Progress,
): Promise<void> {
  progress('getting ready');
  const children = await Promise.all(
    contestants.map(async (contestant) => ({
      contestant,
      child: await start(question, peers, contestant),
    })),
  );
  for (let n = 1; n <= rounds; n += 1) {
    for (const { contestant, child } of children) {
      progress(`round ${n} of ${rounds}, ${contestant.name}`);
      await oneRound(contestant, child);
    }
  }
  for (const { child } of children) child?.disconnect();
}

async function runAfresh(
  question: Case,
  peers: number,
  contestants: Contestant[],
  rounds: number,
  progress: Progress,
): Promise<void> {
  for (let n = 1; n <= rounds; n += 1) {
    for (const contestant of contestants) {
      progress(`round ${n} of ${rounds}, ${contestant.name}`);
      const child = await start(question, peers, contestant);
      await oneRound(contestant, child);
      child?.disconnect();
      if (child?.exitCode === null) await once(child, 'exit');
    }
  }
}

/** The contestant's process, once it is ready; undefined, and a note made, where it cannot be. */
async function start(
  question: Case,
  peers: number,
  contestant: Contestant,
): Promise<ChildProcess | undefined> {
  if (contestant.note !== undefined) return undefined;
  const child = fork(WORKER, [question.name, contestant.name, String(peers)], {
    execArgv: [...FLAGS, ...(question.flags ?? [])],
  });
  const answer = await next(child);
  if ('ready' in answer) return child;
  if ('failed' in answer) contestant.note = answer.failed;
  if (child.connected) child.disconnect();
  return undefined;
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

function resultOf(question: Case, peers: number, { name, rounds, note }: Contestant): Result {
  const figures: Result['figures'] = {};
  for (const metric of rounds.length > 0 ? question.metrics : []) {
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
