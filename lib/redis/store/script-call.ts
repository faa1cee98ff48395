// A call of a script, from when it is made to its answer or its deadline. Few objects, since a client of
// a store is made of many already, and the garbage collector has a say in what a check costs.

import { Pending } from './deadlines.js';
import type { ScriptName } from './limit-scripts.js';

/** A call that was not answered. The failure policy decides then. */
export class NoAnswer extends Error {}

export abstract class Call extends Pending {
  readonly name: ScriptName;
  readonly keys: string[];
  /** What the script is told: times, which are the shard's to write, and what this call is about. */
  readonly args: string[];
  isSentAgain = false;
  /** Told when time runs out. @internal */
  onLate: ((call: Call, error: NoAnswer) => void) | undefined;

  constructor(name: ScriptName, key: string, rest: readonly string[]) {
    super();
    this.name = name;
    this.keys = [key];
    this.args = ['', ...rest];
  }

  /** The script's reply. */
  abstract answered(reply: unknown): void;

  /** With a `NoAnswer` where the store cannot be asked or has not answered; else it refuses this one key. */
  abstract failed(error: Error): void;

  override expire(): void {
    const error = new NoAnswer('the store did not answer in time');
    this.onLate?.(this, error);
    this.failed(error);
  }
}

/** A call whose answer goes to functions. */
export class CallBack extends Call {
  readonly #answered: (reply: unknown) => void;
  readonly #failed: (error: Error) => void;

  constructor(
    name: ScriptName,
    key: string,
    rest: readonly string[],
    answered: (reply: unknown) => void,
    failed: (error: Error) => void,
  ) {
    super(name, key, rest);
    this.#answered = answered;
    this.#failed = failed;
  }

  override answered(reply: unknown): void {
    this.#answered(reply);
  }

  override failed(error: Error): void {
    this.#failed(error);
  }
}
