// Fleet: nodes of one limit, each in a process of its own. They are put under load, killed, stopped and asked from here.

import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type EngineName, engineInfo } from 'relay-limiter';
import { machineSeconds } from '../../examples/fleet/messages.js';
import { type FleetLog, readLogs } from './log.js';
import type { FleetLimit, FromNode, NodeConfig, NodeState, ToNode } from './messages.js';

const NODE = fileURLToPath(new URL('node-process.js', import.meta.url));
export const NODES = 3;
const ASK_MS = 25;

type EnvOfNode = (index: number) => NodeJS.ProcessEnv | undefined;

export class Fleet {
  readonly #config: Omit<NodeConfig, 'client' | 'engine' | 'log'>;
  readonly #env: EnvOfNode;
  readonly #folder = mkdtempSync(join(tmpdir(), 'relay-limiter-fleet-'));
  readonly #logs: string[] = [];
  readonly #nodes: ChildProcess[] = [];
  #checksPerSecond = 0;
  #questions = 0;

  private constructor(ports: readonly number[], limit: FleetLimit, env: EnvOfNode) {
    this.#config = { ports, limit, nodes: NODES };
    this.#env = env;
  }

  /** Starts nodes; resolves once the store has counted all of them. `env`: variables beside those of this process. */
  static async start(
    ports: readonly number[],
    limit: FleetLimit,
    env: EnvOfNode = () => undefined,
  ): Promise<Fleet> {
    const fleet = new Fleet(ports, limit, env);
    try {
      await Promise.all(Array.from({ length: NODES }, (_, index) => fleet.#start(index)));
      // In a cluster a node is counted once it has used a part of the peers.
      if (ports.length === 1) await fleet.until(({ nodes }) => nodes === NODES);
    } catch (error) {
      await fleet.close();
      throw error;
    }
    return fleet;
  }

  /** Sets the number of checks per second that each node makes, of all peers together. */
  load(checksPerSecond: number): void {
    this.#checksPerSecond = checksPerSecond;
    for (const node of this.#nodes) send(node, { kind: 'pace', checksPerSecond });
  }

  /** Kills a node by SIGKILL and starts another in its place. */
  async replace(index: number): Promise<void> {
    const node = this.#node(index);
    const ended = once(node, 'exit');
    node.kill('SIGKILL');
    await ended;
    await this.#start(index);
  }

  /** Stops or continues a node. */
  signal(index: number, name: 'SIGSTOP' | 'SIGCONT'): void {
    this.#node(index).kill(name);
  }

  /** Resolves once the state of each of these nodes fulfils a condition. */
  async until(holds: (state: NodeState) => boolean, indices = allIndices()): Promise<void> {
    await Promise.all(
      indices.map(async (index) => {
        while (!holds(await this.#ask(index))) await sleep(ASK_MS);
      }),
    );
  }

  /** Resolves once each of these nodes has admitted a message that it got after this call. */
  async untilAdmitted(indices = allIndices()): Promise<void> {
    await Promise.all(indices.map((index) => this.#ask(index)));
    await this.until(({ hasAdmitted }) => hasAdmitted, indices);
  }

  /** Resolves once each of these nodes has sent a heartbeat and then another one, so that the first was answered or failed. */
  async untilNextHeartbeat(indices = allIndices()): Promise<void> {
    await Promise.all(
      indices.map(async (index) => {
        const { beats } = await this.#ask(index);
        await this.until((state) => state.beats >= beats + 2, [index]);
      }),
    );
  }

  /** Ends the nodes and returns what they have logged. */
  async end(): Promise<FleetLog> {
    await this.#end();
    return readLogs(this.#logs, machineSeconds());
  }

  async close(): Promise<void> {
    await this.#end();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async #start(index: number): Promise<void> {
    const log = join(this.#folder, `${this.#logs.length}`);
    this.#logs.push(log);
    const hasAddon = engineInfo().engine === 'native';
    const engine: EngineName = hasAddon && index % 2 === 0 ? 'native' : 'js';
    const client = index === 1 ? 'ioredis' : 'node-redis';
    const config: NodeConfig = { ...this.#config, client, engine, log };
    const env = { ...process.env, ...this.#env(index) };
    const node = fork(NODE, [JSON.stringify(config)], { env });
    this.#nodes[index] = node;
    await answerOf(node, (message) => message.kind === 'ready');
    send(node, { kind: 'pace', checksPerSecond: this.#checksPerSecond });
  }

  async #ask(index: number): Promise<NodeState> {
    this.#questions += 1;
    const question = this.#questions;
    const node = this.#node(index);
    const answer = answerOf(node, (message) => {
      return message.kind === 'state' && message.question === question;
    });
    send(node, { kind: 'ask', question });
    const message = await answer;
    return (message as Extract<FromNode, { kind: 'state' }>).state;
  }

  async #end(): Promise<void> {
    await Promise.all(
      this.#nodes.splice(0).map(async (node) => {
        if (node.exitCode !== null || node.signalCode !== null) return;
        const ended = once(node, 'exit');
        node.kill('SIGKILL');
        await ended;
      }),
    );
  }

  #node(index: number): ChildProcess {
    return this.#nodes[index] as ChildProcess;
  }
}

function allIndices(): number[] {
  return Array.from({ length: NODES }, (_, index) => index);
}

function send(node: ChildProcess, message: ToNode): void {
  // A node that has ended shows in an answer that is awaited.
  node.send(message, () => {});
}

/** Resolves with the next message that fits. Rejects if the node fails or ends. */
function answerOf(node: ChildProcess, fits: (message: FromNode) => boolean): Promise<FromNode> {
  return new Promise((resolve, reject) => {
    const settle = (act: () => void) => {
      node.off('message', listen).off('exit', fail);
      act();
    };
    const fail = () => settle(() => reject(new Error('a node of the fleet has ended')));
    const listen = (message: FromNode) => {
      if (message.kind === 'failed') settle(() => reject(new Error(message.why)));
      else if (fits(message)) settle(() => resolve(message));
    };
    node.on('message', listen).on('exit', fail);
  });
}
