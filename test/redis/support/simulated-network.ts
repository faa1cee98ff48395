// SimulatedNetwork: what lies between nodes and a simulated store, in virtual time. Messages take time, are lost or late, and
// the store is away at times.

import type { Random } from '../../support/random.js';
import type { VirtualTime } from './virtual-time.js';

/**
 * An outage of the store. `cut`: it is unreachable. `data loss`: it is unreachable and loses its data. `pause`: it stops and
 * then answers all calls that it got in the meantime.
 */
export interface Outage {
  at: number;
  seconds: number;
  kind: 'cut' | 'data loss' | 'pause';
}

export interface NetworkOptions {
  /** The longest time that a message takes in one direction, in seconds. */
  latency: number;
  /** The share of messages that are lost or delayed beyond all deadlines. */
  loss: number;
  outages: readonly Outage[];
}

/** The store: what a server does with a call. */
export interface SimulatedServer {
  eval(source: string, keys: string[], args: string[]): unknown;
  evalSha(sha: string, keys: string[], args: string[]): unknown;
  restart(): void;
}

/** By how much the clock of a node or of the store may run faster or slower. */
export const MAX_DRIFT = 0.001;

/** A clock that is minutes away from others and runs up to a thousandth faster or slower. */
export function driftingClock(time: VirtualTime, random: Random, offset: number): () => number {
  const pace = 1 + (random() * 2 - 1) * MAX_DRIFT;
  const start = offset + (random() - 0.5) * 600;
  return () => time.now * pace + start;
}

export class SimulatedNetwork {
  readonly #time: VirtualTime;
  readonly #random: Random;
  readonly #options: NetworkOptions;
  readonly #server: SimulatedServer;
  #outage: Outage['kind'] | undefined;
  #held: (() => void)[] = [];
  #dataLosses = 0;
  /** Calls so far. */
  calls = 0;

  constructor(time: VirtualTime, random: Random, options: NetworkOptions, server: SimulatedServer) {
    this.#time = time;
    this.#random = random;
    this.#options = options;
    this.#server = server;
    for (const outage of options.outages) this.#schedule(outage);
  }

  /** A client of one node. `answers`: scripts that are answered at once with an empty text. */
  client(answers: readonly string[] = []): object {
    const call = (method: 'eval' | 'evalSha') => {
      return (
        source: string,
        { keys, arguments: args }: { keys: string[]; arguments: string[] },
      ) => {
        if (answers.includes(source)) return Promise.resolve('');
        return this.#roundTrip(() => this.#server[method](source, keys, args));
      };
    };
    const nothing = () => {};
    const methods = { eval: call('eval'), evalSha: call('evalSha') };
    return { ...methods, connect: nothing, on: nothing, off: nothing };
  }

  #schedule({ at, seconds, kind }: Outage): void {
    this.#time.after(at, () => {
      this.#outage = kind;
      if (kind === 'data loss') this.#dataLosses += 1;
    });
    this.#time.after(at + seconds, () => {
      this.#outage = undefined;
      if (kind === 'data loss') this.#server.restart();
      for (const arrive of this.#held.splice(0)) arrive();
    });
  }

  /** Sends a call and its reply. Either may be lost. */
  #roundTrip(act: () => unknown): Promise<unknown> {
    this.calls += 1;
    return new Promise((resolve, reject) => {
      this.#deliver(reject, () => {
        try {
          const reply = act();
          this.#deliver(reject, () => resolve(reply));
        } catch (error) {
          this.#deliver(reject, () => reject(error as Error));
        }
      });
    });
  }

  #deliver(reject: (error: Error) => void, arrive: () => void): void {
    const { latency, loss } = this.#options;
    const fail = () => reject(new Error('Socket closed unexpectedly'));
    const dataLosses = this.#dataLosses;
    let seconds = this.#random() * latency;
    if (this.#random() < loss) {
      // Half of these are lost with an error, half arrive so late that no caller waits.
      if (this.#random() < 0.5) {
        this.#time.after(seconds, fail);
        return;
      }
      seconds = this.#random() * 5;
    }
    this.#time.after(seconds, () => {
      // A server that ends takes its connections with it, and the messages in them.
      if (this.#dataLosses !== dataLosses) fail();
      else if (this.#outage === undefined) arrive();
      else if (this.#outage === 'pause') this.#held.push(arrive);
      else fail();
    });
  }
}
