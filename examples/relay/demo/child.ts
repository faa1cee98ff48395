// The demo's end of the channel to a child process; starts and stops the child.

import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { Command, Failure } from './messages.js';

/** Milliseconds that a child has to end by itself before it is killed. */
const STOP_GRACE = 1000;

type OfKind<Message, Kind> = Extract<Message, { kind: Kind }>;

export class Child<Message extends { kind: string }> {
  readonly #process: ChildProcess;

  /** Runs `<role>-process.js` in this folder. Calls `onFailure` if the child fails or ends unexpectedly. */
  constructor(role: string, config: object, onFailure: (error: Error) => void) {
    // Not JSON, which has no NaN: the latency is NaN if nothing was delivered.
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
    // A failure to send is ignored: the event 'exit' reports that a child has ended.
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

  /** Resolves with the next message of this kind. */
  next<Kind extends Message['kind']>(kind: Kind): Promise<OfKind<Message, Kind>> {
    return new Promise((resolve) => this.on(kind, resolve));
  }

  /** Ends the process; resolves when it has ended. */
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
