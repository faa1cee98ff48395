// A shard of the store: calls scripts on its server, each with a deadline. While the shard is down, calls fail at once.
// Knows scripts and the store's time; nothing of peers.
//
// Calls wait in a queue until the server's run is known, the script is loaded, and few enough calls are in flight. So the
// server has no more calls than it answers in time, one call loads a script for all that need it, and what is too much
// fails as an overload and does not count as a failure of the store.

import { callSafely } from '../../common/callbacks.js';
import type { Script } from './limit-scripts.js';
import { closedError, isForeignKeyMessage, messageOf, storeError } from './replies.js';
import { NoReplyError, OverloadError, type ScriptCall } from './script-call.js';
import { type HealthContext, ShardHealth, type ShardState } from './shard-health.js';
import { StoreClock } from './store-clock.js';
import { LATE_SECONDS, nowSeconds } from './timing.js';
import { Waiters } from './waiters.js';

export interface ShardContext extends HealthContext {
  /** The name of the class whose calls these are, for errors. */
  readonly owner: string;
  readonly deadlineSeconds: number;
  /** Returns the script of a name for one run of the server. */
  readonly createScript: (name: string, runId: string) => Script;
}

interface ShardScript extends Script {
  /** Whether the server has the script, so that its SHA suffices, or has been sent it. */
  state: 'unknown' | 'loading' | 'loaded';
}

/** Calls that may be in flight: as many as answers come in time for, from the smallest to the largest number. */
const MIN_WINDOW = 16;
const MAX_WINDOW = 1000;
/** Calls that wait; further ones fail at once. */
const MAX_QUEUE = 10_000;

export class Shard {
  readonly #context: ShardContext;
  readonly #clock: StoreClock;
  readonly #health: ShardHealth;
  /** Callers of `ready`. */
  readonly #waiters = new Waiters();
  /** Calls that have not been sent, from `#nextInQueue` on. Some may have expired. */
  #queue: ScriptCall[] = [];
  #nextInQueue = 0;
  #inFlight = 0;
  #window = MAX_WINDOW;
  #windowShrunkAt = Number.NEGATIVE_INFINITY;
  /** The scripts for the run `#scriptsRunId`. */
  readonly #scripts = new Map<string, ShardScript>();
  #scriptsRunId: string | undefined;
  /** Whether the server has answered a heartbeat in this very turn of the event loop. */
  #isJustAlive = false;
  readonly #onTimeout = (call: ScriptCall, wasBlocked: boolean) => {
    const hasAnswered = this.#health.hasAnsweredSince(call.startedAt);
    if (hasAnswered) this.#shrinkWindow();
    if (hasAnswered || wasBlocked) return new OverloadError();
    const error = new NoReplyError('the store did not reply within the deadline');
    this.#health.recordFailure(error, call.startedAt);
    return error;
  };

  /** `key`: what the shard's own keys begin with. */
  constructor(context: ShardContext, number: number, key: string) {
    this.#context = context;
    this.#clock = new StoreClock(context.limit, context.deadlineSeconds);
    this.#health = new ShardHealth(context, number, key, this.#clock, {
      onAlive: () => {
        this.#isJustAlive = true;
        this.#waiters.resolveAll();
        this.#sendQueued();
        this.#isJustAlive = false;
      },
      onFailure: (error) => {
        this.#waiters.rejectAll(error);
        this.#failQueued(error);
      },
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

  /** Whether a call would fail at once because too many wait. */
  get isFull(): boolean {
    return this.#queue.length - this.#nextInQueue >= MAX_QUEUE;
  }

  /** Whether a call has been answered since a time, in time or not. */
  hasAnsweredSince(time: number): boolean {
    return this.#health.hasAnsweredSince(time);
  }

  /** Makes a call. It is answered or fails within the deadline, and fails at once while the shard is down. */
  call(call: ScriptCall): void {
    const { counters, deadlines } = this.#context;
    if (this.state === 'down') {
      call.failed(new NoReplyError('the store is down'));
    } else if (this.isFull) {
      call.failed(new OverloadError());
    } else {
      counters.calls += 1;
      call.onTimeout = this.#onTimeout;
      deadlines.add(call);
      const script = this.#loadedScript(call.name);
      if (script === undefined) {
        this.#queue.push(call);
        this.#sendQueued();
      } else {
        this.#send(call, script);
      }
    }
  }

  /** Creates scripts anew for further calls, since what they are created from has changed. */
  forgetScripts(): void {
    this.#scripts.clear();
  }

  /**
   * Resolves once the server has answered. Rejects with the reason: at once if the server reports an error or the shard
   * is closed, otherwise after two seconds without a reply.
   */
  ready(): Promise<void> {
    return this.#waiters.untilReady(
      () => this.#health.runId !== undefined && this.state === 'up',
      () => this.#context.client.lastError(),
    );
  }

  /** Stops heartbeats, unregisters this node, and then rejects what still waits for the server. */
  async close(): Promise<void> {
    await this.#health.close();
    const error = closedError(this.#context.owner);
    this.#waiters.close(error);
    this.#failQueued(error);
  }

  #sendQueued(): void {
    while (this.#nextInQueue < this.#queue.length) {
      const call = this.#queue[this.#nextInQueue] as ScriptCall;
      if (!call.isDone) {
        if (this.#inFlight >= this.#window || this.state === 'down') return;
        const script = this.#health.runId === undefined ? undefined : this.#script(call.name);
        if (script?.state === 'loading') return;
        // The full text would also run on a server that has lost its data since the last heartbeat, and other nodes
        // would then find the script there and take the server for one that has its data.
        if (script === undefined || (script.state === 'unknown' && !this.#isJustAlive)) {
          this.#health.beat();
          return;
        }
        this.#send(call, script);
      }
      this.#nextInQueue += 1;
      if (this.#nextInQueue === this.#queue.length || this.#nextInQueue === MAX_QUEUE) {
        this.#queue.splice(0, this.#nextInQueue);
        this.#nextInQueue = 0;
      }
    }
  }

  /** The script if a call of it can be sent at once, without the queue. */
  #loadedScript(name: string): ShardScript | undefined {
    if (this.#queue.length > 0 || this.#inFlight >= this.#window) return undefined;
    if (this.#health.runId === undefined) return undefined;
    const script = this.#script(name);
    return script.state === 'loaded' ? script : undefined;
  }

  #failQueued(reason: Error): void {
    const queue = this.#queue.splice(0).slice(this.#nextInQueue);
    this.#nextInQueue = 0;
    for (const call of queue) {
      // A NoReplyError, because any other error means that the store refuses the call's key.
      if (call.end()) call.failed(new NoReplyError(reason.message, { cause: reason }));
    }
  }

  #send(call: ScriptCall, script: ShardScript): void {
    const { client, counters } = this.#context;
    const { keys, args } = call;
    args[0] = this.#clock.argument(call.startedAt);
    counters.inFlight += 1;
    this.#inFlight += 1;
    let reply: Promise<unknown>;
    if (script.state === 'loaded') {
      reply = client.evalSha(script.sha, keys, args);
    } else {
      script.state = 'loading';
      reply = client.eval(script.text, keys, args);
    }
    reply.then(
      (value) => {
        script.state = 'loaded';
        this.#replied(call, value);
        this.#ended();
      },
      (error) => {
        if (script.state === 'loading') script.state = 'unknown';
        this.#failed(call, error);
        this.#ended();
      },
    );
  }

  /** A call is not in flight any more. */
  #ended(): void {
    this.#context.counters.inFlight -= 1;
    this.#inFlight -= 1;
    this.#sendQueued();
  }

  #replied(call: ScriptCall, reply: unknown): void {
    this.#health.recordAnswer(!call.isDone);
    if (call.isDone) {
      this.#shrinkWindow();
      return;
    }
    if (this.#window < MAX_WINDOW) this.#window += 1;
    if (Array.isArray(reply) && String(reply[0]) === 'late') {
      this.#clock.synchronize(Number(reply[1]), call.startedAt, nowSeconds());
      // If the call is not late by this process's clock, the assumed time of the store was wrong.
      if (!call.isSentAgain && nowSeconds() - call.startedAt < LATE_SECONDS / 2) {
        call.isSentAgain = true;
        this.#queue.push(call);
      }
      return;
    }
    if (call.end()) this.#receive(call, reply);
  }

  /** A reply that its receiver cannot handle, as for lack of memory, counts as one that the store refused. */
  #receive(call: ScriptCall, reply: unknown): void {
    try {
      call.answered(reply);
    } catch (error) {
      callSafely(() => call.failed(error as Error));
    }
  }

  /** Halves the number of calls that may be in flight, once for all calls that were in flight together. */
  #shrinkWindow(): void {
    const now = nowSeconds();
    if (now - this.#windowShrunkAt < this.#context.deadlineSeconds) return;
    this.#windowShrunkAt = now;
    this.#window = Math.max(MIN_WINDOW, this.#window / 2);
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
        this.#queue.push(call);
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

  #script(name: string): ShardScript {
    const { runId } = this.#health;
    if (this.#scriptsRunId !== runId) {
      this.#scriptsRunId = runId;
      this.#scripts.clear();
    }
    let script = this.#scripts.get(name);
    if (script === undefined) {
      script = { ...this.#context.createScript(name, runId ?? ''), state: 'unknown' };
      this.#scripts.set(name, script);
    }
    return script;
  }
}
