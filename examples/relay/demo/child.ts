// The demo's end of the channel to a child process, and the child's life.

import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { Command, Failure } from './messages.js';

/** Milliseconds a child has to end by itself. */
const STOP_GRACE = 1000;

type OfKind<Message, Kind> = Extract<Message, { kind: Kind }>;

export class Child<Message extends { kind: string }> {
  readonly #process: ChildProcess;

  /** Runs `<role>-process.js`, beside this file. A child that fails, or ends unasked, is told of. */
  constructor(role: string, config: object, onFailure: (error: Error) => void) {
    // JSON has no NaN, which is the latency of no delivery.
    const path = fileURLToPath(new URL(`./${role}-process.js`, import.meta.url));
    this.#process = fork(path, [JSON.stringify(config)], { serialization: 'advanced' });
    this.#process.on('error', onFailure);
    this.#process.on('message', (message: Message | Failure) => {
      if (isOfKind<Failure, 'failed'>(message, 'failed')) onFailure(new Error(message.why));
    });
    this.#process.on('exit', (code, signal) => {
      onFailure(new Error(`the ${role} process ended early (${signal ?? `exit code ${code}`})`));
    });
  }

  tell(command: Command): void {
    // A child that is gone is noticed by its exit.
    this.#process.send(command, () => {});
  }

  on<Kind extends Message['kind']>(
    kind: Kind,
    listener: (message: OfKind<Message, Kind>) => void,
  ): void {
    this.#process.on('message', (message: Message) => {
      if (isOfKind<Message, Kind>(message, kind)) listener(message);
    });
  }

  /** The first message of a kind from now on. */
  next<Kind extends Message['kind']>(kind: Kind): Promise<OfKind<Message, Kind>> {
    return new Promise((resolve) => this.on(kind, resolve));
  }

  /** Resolves when the process is gone. */
  async stop(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const ended = once(this.#process, 'exit');
    if (this.#process.connected) this.#process.disconnect();
    const timer = setTimeout(() => this.#process.kill('SIGKILL'), STOP_GRACE);
    await ended;
    clearTimeout(timer);
  }
}

function isOfKind<Message extends { kind: string }, Kind>(
  message: { kind: string },
  kind: Kind,
): message is OfKind<Message, Kind> {
  return message.kind === kind;
}
