// A shard of the store: calls scripts on its server, each with a deadline. While the shard is down, calls fail at once.
// Knows scripts and the store's time; nothing of peers.

import type { Limit } from './limit.js';
import { createScript, type Script, type ScriptName } from './limit-scripts.js';
import { closedError, isForeignKeyMessage, messageOf, storeError } from './replies.js';
import { NoReplyError, type ScriptCall } from './script-call.js';
import { type HealthContext, ShardHealth, type ShardState } from './shard-health.js';
import { StoreClock } from './store-clock.js';
import { LATE_SECONDS, nowSeconds } from './timing.js';
import { Waiters } from './waiters.js';

export interface ShardContext extends HealthContext {
  readonly limit: Limit;
  readonly deadlineSeconds: number;
}

interface ShardScript extends Script {
  /** Whether the server is known to have the script, so that its SHA suffices. */
  isLoaded: boolean;
}

/** Calls without a reply, late ones included, beyond which further calls fail at once. */
const MAX_IN_FLIGHT = 50_000;

export class Shard {
  readonly #context: ShardContext;
  readonly #clock: StoreClock;
  readonly #health: ShardHealth;
  /** Calls that need the server's run, and callers of `ready`. */
  readonly #waiters = new Waiters();
  /** The scripts for the run `#scriptsRunId`. */
  readonly #scripts = new Map<ScriptName, ShardScript>();
  #scriptsRunId: string | undefined;
  /** Whether the server has answered a heartbeat in this very turn of the event loop. */
  #isJustAlive = false;
  readonly #onTimeout = (call: ScriptCall, error: NoReplyError) => {
    this.#health.recordFailure(error, call.startedAt);
  };

  /** `key`: the shard's key of nodes. */
  constructor(context: ShardContext, number: number, key: string) {
    this.#context = context;
    this.#clock = new StoreClock(context.limit, context.deadlineSeconds);
    this.#health = new ShardHealth(context, number, key, this.#clock, {
      onAlive: () => {
        this.#isJustAlive = true;
        this.#waiters.resolveAll();
        this.#isJustAlive = false;
      },
      onFailure: (error) => this.#waiters.rejectAll(error),
    });
    this.#health.beat();
  }

  get state(): ShardState {
    return this.#health.state;
  }

  /** The number of nodes last seen, with this one; at least 1. */
  get nodes(): number {
    return this.#health.nodes;
  }

  /** The largest number of nodes seen within the last five minutes. */
  get maxNodes(): number {
    return this.#health.maxNodes;
  }

  /** Makes a call. It is answered or fails within the deadline, and fails at once while the shard is down. */
  call(call: ScriptCall): void {
    const { counters, deadlines } = this.#context;
    if (this.state === 'down') {
      call.failed(new NoReplyError('the store is down'));
    } else if (counters.inFlight >= MAX_IN_FLIGHT) {
      call.failed(new NoReplyError(`${MAX_IN_FLIGHT} calls are waiting for a reply`));
    } else {
      counters.calls += 1;
      call.onTimeout = this.#onTimeout;
      deadlines.add(call);
      if (this.#health.runId === undefined) this.#wait(call);
      else this.#send(call);
    }
  }

  /**
   * Resolves once the server has answered. Rejects with the reason: at once if the server reports an error or the shard
   * is closed, otherwise after two seconds without a reply.
   */
  ready(): Promise<void> {
    return this.#waiters.untilReady(() => {
      return this.#health.runId !== undefined && this.state === 'up';
    });
  }

  /** Stops heartbeats, unregisters this node, and then rejects what still waits for the server. */
  async close(): Promise<void> {
    await this.#health.close();
    this.#waiters.close(closedError());
  }

  #wait(call: ScriptCall): void {
    this.#waiters.add({
      resolve: () => this.#send(call),
      // A NoReplyError, because any other error means that the store refuses the call's key.
      reject: (error) => call.end() && call.failed(new NoReplyError(error.message, error)),
    });
  }

  #send(call: ScriptCall): void {
    if (call.isDone) return;
    const { client, counters } = this.#context;
    const { keys, args } = call;
    const script = this.#script(call.name);
    if (!script.isLoaded && !this.#isJustAlive) {
      // The full text would also run on a server that has lost its data since the last heartbeat, and other nodes
      // would then find the script there and take the server for one that has its data.
      this.#wait(call);
      this.#health.beat();
      return;
    }
    args[0] = this.#clock.argument(call.startedAt);
    counters.inFlight += 1;
    const reply = script.isLoaded
      ? client.evalSha(script.sha, keys, args)
      : client.eval(script.text, keys, args);
    reply.then(
      (value) => {
        counters.inFlight -= 1;
        script.isLoaded = true;
        this.#replied(call, value);
      },
      (error) => {
        counters.inFlight -= 1;
        this.#failed(call, error);
      },
    );
  }

  #replied(call: ScriptCall, reply: unknown): void {
    if (call.isDone) return;
    if (Array.isArray(reply) && String(reply[0]) === 'late') {
      this.#clock.synchronize(Number(reply[1]), nowSeconds());
      // If the call is not late by this process's clock, the assumed time of the store was wrong.
      if (!call.isSentAgain && nowSeconds() - call.startedAt < LATE_SECONDS / 2) {
        call.isSentAgain = true;
        this.#send(call);
      }
      return;
    }
    this.#health.recordSuccess();
    if (call.end()) call.answered(reply);
  }

  #failed(call: ScriptCall, error: unknown): void {
    const message = messageOf(error);
    if (message.startsWith('NOSCRIPT')) {
      // The server was restarted or replaced, or its scripts were flushed.
      this.#scripts.clear();
      this.#health.forgetRun();
      if (call.isDone) return;
      if (call.isSentAgain) this.#reject(call, error, message);
      else {
        call.isSentAgain = true;
        this.#wait(call);
      }
      this.#health.beat();
    } else if (isForeignKeyMessage(message)) {
      if (call.end()) call.failed(storeError(message, error));
    } else {
      this.#reject(call, error, message);
    }
  }

  #reject(call: ScriptCall, cause: unknown, message: string): void {
    if (!call.end()) return;
    const error = new NoReplyError(message, { cause });
    this.#health.recordFailure(error, call.startedAt);
    call.failed(error);
  }

  #script(name: ScriptName): ShardScript {
    const { runId } = this.#health;
    if (this.#scriptsRunId !== runId) {
      this.#scriptsRunId = runId;
      this.#scripts.clear();
    }
    let script = this.#scripts.get(name);
    if (script === undefined) {
      script = { ...createScript(name, this.#context.limit, runId ?? ''), isLoaded: false };
      this.#scripts.set(name, script);
    }
    return script;
  }
}
