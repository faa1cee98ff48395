// A call of a script, from its start to its reply or its deadline. A call creates few objects: the client creates many
// already, and garbage collection is part of the cost of a check.

import { Pending } from './deadlines.js';

/** No usable reply: the store is down, late or failing. The failure policy then decides. */
export class NoReplyError extends Error {}

/**
 * No reply in time although the store answers: it has, or this process makes, more calls than are answered in time. The
 * check is delayed.
 */
export class OverloadError extends NoReplyError {
  constructor() {
    super('more calls of the store than are answered within the deadline');
  }
}

export abstract class ScriptCall extends Pending {
  readonly name: string;
  readonly keys: string[];
  /** The script's arguments. The shard replaces the first one (see store-clock.ts) before it sends the call. */
  readonly args: string[];
  isSentAgain = false;
  /** Returns the error for `failed` if the deadline passes. @internal */
  onTimeout: ((call: ScriptCall, wasBlocked: boolean) => NoReplyError) | undefined;

  constructor(name: string, keys: string[], args: string[]) {
    super();
    this.name = name;
    this.keys = keys;
    this.args = args;
  }

  /** Receives the script's reply. */
  abstract answered(reply: unknown): void;

  /**
   * Receives a `NoReplyError` if the store gave no usable reply; any other error means that it refuses this key only.
   */
  abstract failed(error: Error): void;

  override expire(wasBlocked: boolean): void {
    this.failed(this.onTimeout?.(this, wasBlocked) ?? new OverloadError());
  }
}

/** A call with functions as its receivers. */
export class CallbackCall extends ScriptCall {
  readonly #answered: (reply: unknown) => void;
  readonly #failed: (error: Error) => void;

  constructor(
    name: string,
    keys: string[],
    args: readonly string[],
    answered: (reply: unknown) => void,
    failed: (error: Error) => void,
  ) {
    super(name, keys, ['', ...args]);
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
