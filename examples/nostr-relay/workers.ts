// The workers of the relay, as the primary process sees them: starts and replaces them, and passes on the events that each of
// them has admitted. The limits need no message: they are in a table that all processes share.

import cluster, { type Worker } from 'node:cluster';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { LimitsFile } from './limits.js';
import type { FromWorker, ToWorker, WorkerConfig } from './messages.js';
import { EventStore } from './store.js';

const PROGRAM = fileURLToPath(new URL('./worker-process.js', import.meta.url));

export interface WorkersOptions {
  readonly config: WorkerConfig;
  readonly limits: LimitsFile;
  readonly onRefusals: (counts: [kind: string, count: number][]) => void;
  readonly onReload: () => void;
  /** A worker cannot start, for a reason that another one would have as well. */
  readonly onFailure: (error: Error) => void;
  readonly print: (line: string) => void;
}

export class RelayWorkers {
  readonly #options: WorkersOptions;
  readonly #store = new EventStore();
  /** Those that have received `start`. */
  readonly #started = new Set<Worker>();
  #limits: LimitsFile;
  #port = 0;
  #isStopping = false;

  constructor(options: WorkersOptions) {
    this.#options = options;
    this.#limits = options.limits;
    // On Windows the system would choose the worker of a connection, often the same one.
    cluster.schedulingPolicy = cluster.SCHED_RR;
    cluster.setupPrimary({ exec: PROGRAM, args: [JSON.stringify(options.config)] });
  }

  get port(): number {
    return this.#port;
  }

  /** Resolves when all of them listen. */
  async start(count: number): Promise<void> {
    await Promise.all(Array.from({ length: count }, (_, at) => this.#fork(at + 1, 'is')));
  }

  setLimits(limits: LimitsFile): void {
    this.#limits = limits;
    for (const worker of this.#started) send(worker, { kind: 'limits', limits });
  }

  async stop(): Promise<void> {
    this.#isStopping = true;
    const workers = Object.values(cluster.workers ?? {}).filter((worker) => worker !== undefined);
    await Promise.all(
      workers.map(async ({ process: { exitCode, signalCode }, process }) => {
        if (exitCode !== null || signalCode !== null) return;
        const exit = once(process, 'exit');
        if (process.connected) process.disconnect();
        await exit;
      }),
    );
  }

  #fork(number: number, verb: string): Promise<void> {
    const { print, onFailure, onRefusals, onReload } = this.#options;
    const worker = cluster.fork();
    let isListening = false;
    worker.on('exit', (code, signal) => {
      this.#started.delete(worker);
      if (this.#isStopping) return;
      if (!isListening && signal === null) onFailure(new Error(`a worker ended with ${code}`));
      else this.#fork(number, `has ended (${signal ?? code}) and is now`);
    });
    return new Promise((resolve) => {
      worker.on('message', (message: FromWorker) => {
        if (message.kind === 'ready') this.#welcome(worker);
        else if (message.kind === 'event') this.#passOn(worker, message);
        else if (message.kind === 'refusals') onRefusals(message.counts);
        else if (message.kind === 'reload') onReload();
        else if (message.kind === 'listening') {
          this.#port = message.port;
          isListening = true;
          print(`worker ${number} ${verb} process ${worker.process.pid}, port ${message.port}`);
          resolve();
        } else onFailure(new Error(message.why));
      });
    });
  }

  #welcome(worker: Worker): void {
    this.#started.add(worker);
    const { limits: founding } = this.#options;
    send(worker, { kind: 'start', founding, limits: this.#limits, stored: this.#store.all });
  }

  #passOn(from: Worker, message: FromWorker & { kind: 'event' }): void {
    this.#store.add(message.event);
    for (const worker of this.#started) if (worker !== from) send(worker, message);
  }
}

function send(worker: Worker, message: ToWorker): void {
  // A worker that has just ended is replaced when its exit is known.
  if (worker.isConnected()) worker.send(message, undefined, () => {});
}
