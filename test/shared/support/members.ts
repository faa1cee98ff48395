// Members of shared tables: processes and threads of every kind that a server may have, which do what a test says.

import { type ChildProcess, fork } from 'node:child_process';
import cluster from 'node:cluster';
import { EventEmitter, once } from 'node:events';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import type { Ban, SharedTable } from 'relay-limiter';
import type { Admission } from '../../../out/examples/fleet/bound.js';
import { ROOT } from '../../support/processes.js';

const PROGRAM = fileURLToPath(new URL('member.mjs', import.meta.url));

export type KeyedAdmission<Key = string> = Admission & { key: Key };

interface Message {
  id?: number;
  value?: unknown;
  error?: { code: string; message: string };
  ban?: Ban;
  warning?: { code: string; message: string };
  loads?: number;
  isReady?: true;
}

/** What a member needs of its process or thread. */
interface Channel {
  send(message: object): void;
  end(): Promise<unknown>;
}

export class Member {
  readonly bans: Ban[] = [];
  readonly warnings: { code: string; message: string }[] = [];
  /** How often the member has done a thousand calls of `load`. */
  loads = 0;
  readonly #events = new EventEmitter();
  readonly #channel: Channel;
  #calls = 0;
  readonly child: ChildProcess | undefined;

  private constructor(channel: Channel, child?: ChildProcess) {
    this.#channel = channel;
    this.child = child;
  }

  /** A process of its own, as a separate service is. */
  static async process(): Promise<Member> {
    const child = fork(PROGRAM, [], { serialization: 'advanced', cwd: ROOT });
    return Member.#ofChild(child);
  }

  /** A worker of node:cluster. */
  static async clusterWorker(): Promise<Member> {
    cluster.setupPrimary({ exec: PROGRAM, serialization: 'advanced', cwd: ROOT });
    return Member.#ofChild(cluster.fork().process);
  }

  /** A thread of this process. */
  static async thread(): Promise<Member> {
    const worker = new Worker(PROGRAM);
    const member = new Member({
      send: (message) => worker.postMessage(message),
      end: () => worker.terminate(),
    });
    worker.on('message', (message: Message) => member.#receive(message));
    await member.#next('ready');
    return member;
  }

  static async #ofChild(child: ChildProcess): Promise<Member> {
    const member = new Member(
      {
        send: (message) => child.send(message),
        async end() {
          if (child.exitCode !== null || child.signalCode !== null) return;
          const ended = once(child, 'exit');
          child.kill('SIGKILL');
          await ended;
        },
      },
      child,
    );
    child.on('message', (message: Message) => member.#receive(message));
    child.on('exit', (code) => {
      if (code !== null) member.#events.emit('error', new Error(`a member ended with ${code}`));
    });
    // Only for those who wait for something.
    member.#events.on('error', () => {});
    await member.#next('ready');
    return member;
  }

  /** The process id; that of this process for a thread. */
  get pid(): number {
    return this.child?.pid ?? process.pid;
  }

  /** Creates a limiter; later calls are of the limiter that was created last. */
  open(name: string, options: object): Promise<SharedTable> {
    return this.#do('open', name, options) as Promise<SharedTable>;
  }

  call(method: string, ...args: unknown[]): Promise<unknown> {
    return this.#do('call', method, ...args);
  }

  shared(): Promise<SharedTable> {
    return this.#do('shared') as Promise<SharedTable>;
  }

  flood<Key>(method: string, keys: readonly Key[], checks: number): Promise<KeyedAdmission<Key>[]> {
    return this.#do('flood', method, keys, checks) as Promise<KeyedAdmission<Key>[]>;
  }

  async load(methods: readonly string[], keys: number): Promise<void> {
    await this.#do('load', methods, keys);
    await this.progress();
  }

  /** Resolves once the member has done a thousand more calls of `load`. */
  async progress(): Promise<void> {
    await this.#next('load');
  }

  /** Resolves once the member has warned. */
  async warning(): Promise<void> {
    if (this.warnings.length === 0) await this.#next('warning');
  }

  signal(name: NodeJS.Signals): void {
    this.child?.kill(name);
  }

  /** Resolves once a process that got SIGSTOP has stopped. Only on Linux. */
  async stopped(): Promise<void> {
    const state = () => readFileSync(`/proc/${this.pid}/stat`, 'utf8').replace(/^.*\) /s, '')[0];
    while (state() !== 'T') await new Promise((resolve) => setImmediate(resolve));
  }

  /** Ends the process by SIGKILL, or the thread. */
  async end(): Promise<void> {
    await this.#channel.end();
  }

  async #do(command: string, ...args: unknown[]): Promise<unknown> {
    this.#calls += 1;
    const id = this.#calls;
    this.#channel.send({ id, command, args });
    const { value, error } = (await this.#next(`answer ${id}`)) as Message;
    if (error !== undefined) throw Object.assign(new Error(error.message), { code: error.code });
    return value;
  }

  async #next(event: string): Promise<unknown> {
    const [message] = await once(this.#events, event);
    return message;
  }

  #receive(message: Message): void {
    if (message.ban !== undefined) this.bans.push(message.ban);
    if (message.warning !== undefined) this.warnings.push(message.warning);
    if (message.loads !== undefined) this.loads = message.loads;
    if (message.isReady) this.#events.emit('ready');
    if (message.warning) this.#events.emit('warning');
    if (message.loads !== undefined) this.#events.emit('load');
    if (message.id !== undefined) this.#events.emit(`answer ${message.id}`, message);
  }
}

let files = 0;

/** The name of a table that no other test has. */
export function newName(): string {
  files += 1;
  return `test-${process.pid}-${files}-${Math.random().toString(36).slice(2, 8)}`;
}
