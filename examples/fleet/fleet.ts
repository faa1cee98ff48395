// Starts and stops the processes of the demonstration: the relays and the flood.

import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { Admission, Cut } from './bound.js';
import type { Counts, FromNode, LoadConfig, NodeConfig, StoreState } from './messages.js';
import { hasEnded } from './server.js';

const NOTHING: Counts = {
  kind: 'counts',
  admitted: 0,
  refused: 0,
  calls: 0,
  leased: 0,
  nodes: 0,
  store: 'up',
  admissions: [],
};

class Process {
  readonly child: ChildProcess;

  constructor(role: string, config: object, onFailure: (error: Error) => void) {
    const path = fileURLToPath(new URL(`./${role}-process.js`, import.meta.url));
    this.child = fork(path, [JSON.stringify(config)], { serialization: 'advanced' });
    this.child.on('exit', () => onFailure(new Error(`a ${role} process ended early`)));
    this.child.on('message', (message: { kind: string; why?: string }) => {
      if (message.kind === 'failed') onFailure(new Error(`a ${role} process: ${message.why}`));
    });
  }

  async stop(): Promise<void> {
    if (hasEnded(this.child)) return;
    const ended = once(this.child, 'exit');
    if (this.child.connected) this.child.disconnect();
    await ended;
  }
}

export class Fleet {
  readonly admissions: Admission[] = [];
  /** Times during which a relay considered the store unavailable; the end of a present one is infinite. */
  readonly cuts: Cut[] = [];
  /** The latest counts of each relay. */
  readonly counts: Counts[] = [];
  readonly #processes: Process[] = [];
  readonly #onFailure: (error: Error) => void;
  #isStopping = false;

  constructor(onFailure: (error: Error) => void) {
    this.#onFailure = (error) => {
      if (!this.#isStopping) onFailure(error);
    };
  }

  /** Starts the relays; resolves with their ports. */
  async start(relays: number, config: NodeConfig): Promise<number[]> {
    return Promise.all(Array.from({ length: relays }, (_, at) => this.#startRelay(at, config)));
  }

  flood(config: LoadConfig): void {
    this.#processes.push(new Process('load', config, this.#onFailure));
  }

  async stop(): Promise<void> {
    this.#isStopping = true;
    await Promise.all(this.#processes.map((one) => one.stop()));
  }

  #startRelay(at: number, config: NodeConfig): Promise<number> {
    this.counts[at] = NOTHING;
    const relay = new Process('node', config, this.#onFailure);
    this.#processes.push(relay);
    return new Promise((resolve) => {
      relay.child.on('message', (message: FromNode) => {
        if (message.kind === 'listening') resolve(message.port);
        if (message.kind === 'state') this.#changed(at, message);
        if (message.kind === 'counts') this.#counted(at, message);
      });
    });
  }

  #changed(relay: number, { at, isDown }: StoreState): void {
    if (isDown) this.cuts.push({ node: relay, from: at, to: Infinity });
    else {
      for (const cut of this.cuts) if (cut.node === relay && cut.to === Infinity) cut.to = at;
    }
  }

  #counted(at: number, counts: Counts): void {
    this.counts[at] = counts;
    for (const [from, at] of counts.admissions) this.admissions.push({ from, at, cost: 1 });
  }
}
