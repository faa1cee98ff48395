// Runs a case, with one process per contestant. The processes take turns, so that other work on the machine affects all
// of them.

import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Case, Round } from './cases/case.js';
import { type Result, spread } from './results.js';

const WORKER = fileURLToPath(new URL('worker.js', import.meta.url));
// Ten million objects in a Map exceed V8's default heap limit.
const FLAGS = ['--expose-gc', '--max-old-space-size=16000'];

/** One case at one size. */
export interface Step {
  benchCase: Case;
  peers: number;
  rounds: number;
  /** Called with a description of the current work. */
  progress(doing: string): void;
  /** The script that each contestant's process runs. */
  worker?: string;
}

type Answer = { ready: true } | { round: Round } | { failed: string };

interface Contestant {
  name: string;
  rounds: Round[];
  /** Why it is not measured. */
  note?: string;
}

/** Returns each contestant's figures, or the reason why it has none, even if its process fails. */
export async function run(step: Step): Promise<Result[]> {
  const names = step.benchCase.contestants(step.peers);
  const contestants = names.map((name): Contestant => ({ name, rounds: [] }));
  const around = await step.benchCase.surroundings?.();
  try {
    const env = { ...process.env, ...around?.env };
    await (step.benchCase.fresh ? runAfresh : runInTurns)({ ...step, env }, contestants);
  } finally {
    await around?.close();
  }
  return contestants.map((contestant) => resultOf(step, contestant));
}

/** A step, and the environment of its processes. */
interface Staged extends Step {
  env: NodeJS.ProcessEnv;
}

async function runInTurns(step: Staged, contestants: Contestant[]): Promise<void> {
  step.progress('getting ready');
  const workers = contestants.map((contestant) => new Worker(step, contestant));
  await Promise.all(workers.map((worker) => worker.ready()));
  for (let n = 1; n <= step.rounds; n += 1) {
    for (const worker of workers) {
      step.progress(`round ${n} of ${step.rounds}, ${worker.contestant.name}`);
      await worker.round();
    }
  }
  await Promise.all(workers.map((worker) => worker.stop()));
}

async function runAfresh(step: Staged, contestants: Contestant[]): Promise<void> {
  for (let n = 1; n <= step.rounds; n += 1) {
    for (const contestant of contestants.filter(({ note }) => note === undefined)) {
      step.progress(`round ${n} of ${step.rounds}, ${contestant.name}`);
      const worker = new Worker(step, contestant);
      await worker.ready();
      await worker.round();
      await worker.stop();
    }
  }
}

/** A contestant's process. */
class Worker {
  readonly contestant: Contestant;
  readonly #child: ChildProcess;
  /** Resolves with the reason once the process has ended, or could not be started. */
  readonly #ended: Promise<Answer>;

  constructor({ benchCase, peers, env, worker = WORKER }: Staged, contestant: Contestant) {
    this.contestant = contestant;
    const child = fork(worker, [benchCase.name, contestant.name, String(peers)], {
      env,
      execArgv: [...FLAGS, ...(benchCase.flags ?? [])],
    });
    this.#child = child;
    this.#ended = new Promise((resolve) => {
      child.once('error', ({ message }) => resolve({ failed: message }));
      child.once('exit', (code, signal) => {
        RUNNING.delete(child);
        resolve({ failed: `its process ended (${signal ?? code})` });
      });
    });
    RUNNING.add(child);
  }

  async ready(): Promise<void> {
    this.#note(await this.#answer());
  }

  async round(): Promise<void> {
    if (this.contestant.note !== undefined) return;
    // A failure to send is ignored: the end of the process is reported anyway.
    this.#child.send('round', () => {});
    this.#note(await this.#answer());
  }

  /** Disconnects the process, which then ends by itself. */
  async stop(): Promise<void> {
    if (this.#child.connected) this.#child.disconnect();
    await this.#ended;
  }

  #answer(): Promise<Answer> {
    const said = new Promise<Answer>((resolve) => {
      this.#child.once('message', (answer) => resolve(answer as Answer));
    });
    return Promise.race([said, this.#ended]);
  }

  #note(answer: Answer): void {
    if ('round' in answer) this.contestant.rounds.push(answer.round);
    if ('failed' in answer) this.contestant.note = answer.failed;
  }
}

const RUNNING = new Set<ChildProcess>();

/** Kills the processes of all contestants, for when the benchmark is interrupted. */
export function stopAll(): void {
  for (const child of RUNNING) child.kill('SIGKILL');
}

function resultOf(step: Step, { name, rounds, note }: Contestant): Result {
  const figures: Result['figures'] = {};
  // A contestant that failed in one round may have been wrong in earlier rounds too.
  const measured = note === undefined && rounds.length > 0;
  for (const metric of measured ? step.benchCase.metrics : []) {
    figures[metric.name] = spread(rounds.map((round) => round.figures[metric.name] ?? Number.NaN));
  }
  const curve = measured ? rounds.at(-1)?.curve : undefined;
  return {
    case: step.benchCase.name,
    peers: step.peers,
    contestant: name,
    date: new Date().toISOString().slice(0, 10),
    rounds: rounds.length,
    figures,
    ...(curve && { curve }),
    ...(note !== undefined && { note }),
  };
}
