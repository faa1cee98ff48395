// Starts, kills and replaces the workers of the cluster, and adds up what they report.

import { type ChildProcess, fork } from 'node:child_process';
import cluster, { type Worker } from 'node:cluster';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { Admission } from '../fleet/bound.js';
import type { Counts, FloodConfig, FromWorker, ToWorker, WorkerConfig } from './messages.js';

const pathOf = (name: string) => fileURLToPath(new URL(`./${name}-process.js`, import.meta.url));

/** One place in the cluster: the worker that has it, and what all workers that had it have decided. */
export interface Place {
  pid: number;
  admitted: number;
  refused: number;
  state: 'starts' | 'runs' | 'killed' | 'replaced';
}

export class Workers {
  readonly places: Place[] = [];
  readonly admissions: Admission[] = [];
  readonly #workers: Worker[] = [];
  readonly #config: WorkerConfig;
  readonly #onFailure: (error: Error) => void;
  readonly #expected = new Set<Worker>();
  #flood: ChildProcess | undefined;

  constructor(config: WorkerConfig, onFailure: (error: Error) => void) {
    this.#config = config;
    this.#onFailure = onFailure;
    // On Windows the system would choose the worker of a connection, often the same one.
    cluster.schedulingPolicy = cluster.SCHED_RR;
  }

  /** Resolves with the port that all workers have, once each of them listens. */
  async start(count: number): Promise<number> {
    const ports = await Promise.all(Array.from({ length: count }, (_, at) => this.#fork(at)));
    return ports[0] as number;
  }

  flood(config: FloodConfig): void {
    this.#flood = fork(pathOf('flood'), [JSON.stringify(config)]);
    this.#flood.on('exit', () => {
      if (this.#flood !== undefined) this.#onFailure(new Error('the flood ended early'));
    });
  }

  /** Ends the worker of a place in the middle of whatever it does, and starts another one. */
  async kill(at: number): Promise<void> {
    const worker = this.#workers[at] as Worker;
    this.#expected.add(worker);
    const ended = once(worker, 'exit');
    worker.process.kill('SIGKILL');
    await ended;
    (this.places[at] as Place).state = 'killed';
    await this.#fork(at);
    (this.places[at] as Place).state = 'replaced';
  }

  /** Stops the flood, and then the workers when they have reported everything. */
  async stop(): Promise<void> {
    const flood = this.#flood;
    this.#flood = undefined;
    if (flood !== undefined) await ended(flood, () => flood.disconnect());
    await Promise.all(
      this.#workers.map(async (worker) => {
        if (!worker.isConnected()) return;
        const reported = new Promise<void>((resolve) => {
          worker.on('message', ({ kind }: FromWorker) => {
            if (kind === 'counts') resolve();
          });
          worker.on('exit', () => resolve());
        });
        this.#expected.add(worker);
        worker.send('report' satisfies ToWorker);
        await reported;
        await ended(worker.process, () => worker.process.disconnect());
      }),
    );
  }

  async #fork(at: number): Promise<number> {
    const args = [JSON.stringify(this.#config)];
    cluster.setupPrimary({ exec: pathOf('worker'), args, serialization: 'advanced' });
    const worker = cluster.fork();
    this.#workers[at] = worker;
    const before = this.places[at];
    const place: Place = {
      pid: worker.process.pid ?? 0,
      admitted: before?.admitted ?? 0,
      refused: before?.refused ?? 0,
      state: 'starts',
    };
    this.places[at] = place;
    let last = { admitted: 0, refused: 0 };
    worker.on('exit', () => {
      if (!this.#expected.has(worker)) this.#onFailure(new Error('a worker ended early'));
    });
    return new Promise((resolve) => {
      worker.on('message', (message: FromWorker | { kind: 'failed'; why: string }) => {
        if (message.kind === 'failed') this.#onFailure(new Error(`a worker: ${message.why}`));
        if (message.kind === 'listening') {
          place.state = 'runs';
          resolve(message.port);
        }
        if (message.kind !== 'counts') return;
        place.admitted += message.admitted - last.admitted;
        place.refused += message.refused - last.refused;
        last = message;
        this.#note(message);
      });
    });
  }

  #note({ admissions }: Counts): void {
    for (const [from, at] of admissions) this.admissions.push({ from, at, cost: 1 });
  }
}

async function ended(child: ChildProcess, end: () => void): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = once(child, 'exit');
  if (child.connected) end();
  await exit;
}
