// One part of the store, on one server: its scripts, its clock, how many nodes speak to it, and whether
// it answers. Each call has a deadline. After failures in a row nothing but the beat goes there, and when
// one is answered in time everything does again. Knows scripts and times; nothing of peers.

import { detached } from '../../timers.js';
import type { StoreClient } from './client.js';
import { type Deadlines, Pending } from './deadlines.js';
import { BEAT, BYE, type Limit, type Script, type ScriptName, script } from './limit-scripts.js';
import { isNumber, storeError, strangeReply } from './replies.js';
import { type Call, NoAnswer } from './script-call.js';
import { LATE_SECONDS, StoreTimes } from './store-clock.js';

export type ShardState = 'up' | 'down';

export interface StateChange {
  readonly state: ShardState;
  /** The part of the store: 0 is all of it where it is no cluster. */
  readonly shard: number;
  /** Why it is down. */
  readonly reason?: Error;
  /** It is up again, but what it knew is lost: every bucket starts empty. */
  readonly lostData?: boolean;
}

export interface ShardContext {
  readonly client: StoreClient;
  readonly limit: Limit;
  /** Who this node is. */
  readonly holder: string;
  readonly deadlines: Deadlines;
  readonly deadlineSeconds: number;
  /** Tokens that a peer may have been given while the store was away for so long. */
  readonly givenWhileAway: (seconds: number) => number;
  readonly onChange: (change: StateChange) => void;
  readonly counters: StoreCounters;
}

export interface StoreCounters {
  /** Scripts called for a peer. */
  calls: number;
  /** Signs of life. */
  beats: number;
  /** Calls without an answer in time, or with an error. */
  failures: number;
  /** How often it went down. */
  downs: number;
  /** Calls that have not been answered yet, deadline or not. */
  inFlight: number;
}

/** Failures in a row after which nothing goes there. */
const FAILURES = 3;
const BEAT_SECONDS = { down: 0.25, first: 0.5, most: 5 };
/** How much earlier than this one other nodes may have noticed that the store was gone. */
const NOTICE_SECONDS = 1;
const READY_SECONDS = 2;
/** For so long the largest number of nodes is remembered: after a restart the first to come back sees itself alone. */
const NODES_SECONDS = 300;
/** Calls under way, answered in time or not, above which no more are made. */
const MOST_IN_FLIGHT = 50_000;

/** Something without an answer of its own: what is to be done when none has come. */
class Expiry extends Pending {
  readonly #then: (error: Error) => void;

  constructor(then: (error: Error) => void) {
    super();
    this.#then = then;
  }

  override expire(): void {
    this.#then(storeError('it did not answer in time'));
  }
}

export class Shard {
  readonly #context: ShardContext;
  readonly #number: number;
  readonly #key: string;
  #state: ShardState = 'up';
  #nodes = 1;
  #mostNodes = 1;
  #mostUntil = Number.NEGATIVE_INFINITY;

  // The server, as of the last beat: its run, the scripts it has, and its time.
  #run: string | undefined;
  #lastRun: string | undefined;
  #scripts = new Map<ScriptName, { script: Script; isLoaded: boolean }>();
  #seenAt = Number.NEGATIVE_INFINITY;
  readonly #times: StoreTimes;

  readonly #onLate = (call: Call, error: NoAnswer) => this.#failed(error, call.startedAt);
  #failures = 0;
  #failingSince = 0;
  #waiting: { go: () => void; stop: (error: Error) => void }[] = [];
  #isBeating = false;
  /** In the turn in which it has been heard of. */
  #isJustHeard = false;
  #beatSeconds = BEAT_SECONDS.first;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #isClosed = false;

  constructor(context: ShardContext, number: number, key: string) {
    this.#context = context;
    this.#number = number;
    this.#key = key;
    this.#times = new StoreTimes(context.limit, context.deadlineSeconds);
    this.#beat();
  }

  get state(): ShardState {
    return this.#state;
  }

  /** Nodes last seen, this one included; at least 1. */
  get nodes(): number {
    return this.#nodes;
  }

  /** The most nodes seen within the last minutes. */
  get mostNodes(): number {
    return this.#mostNodes;
  }

  /** Makes a call. It is answered, or fails, within the deadline; at once where the store is known to be down. */
  call(call: Call): void {
    const { counters, deadlines } = this.#context;
    if (this.#state === 'down') {
      call.failed(new NoAnswer('the store is down'));
    } else if (counters.inFlight >= MOST_IN_FLIGHT) {
      call.failed(new NoAnswer('too many calls are under way'));
    } else {
      counters.calls += 1;
      call.onLate = this.#onLate;
      deadlines.add(call);
      if (this.#run === undefined) this.#wait(call);
      else this.#send(call);
    }
  }

  /**
   * Resolves once the server has been heard of. Rejects with what is wrong with it: at once if it says so,
   * else if nothing is heard for two seconds.
   */
  async ready(): Promise<void> {
    const until = seconds() + READY_SECONDS;
    for (;;) {
      try {
        await this.#heard();
        return;
      } catch (error) {
        if ((error as Error).cause !== undefined || seconds() > until) throw error;
      }
    }
  }

  /** No more beats; says good-bye. */
  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    if (this.#state === 'down') return;
    const { client, holder, deadlines } = this.#context;
    await new Promise<void>((resolve) => {
      const bye = new Expiry(() => resolve());
      const said = () => {
        if (bye.end()) resolve();
      };
      deadlines.add(bye);
      client.eval(BYE, [this.#key], [holder]).then(said, said);
    });
  }

  /** A call failed that was made at `askedAt`. */
  #failed(error: Error, askedAt: number): void {
    this.#context.counters.failures += 1;
    if (this.#state === 'down') return;
    if (this.#failures === 0) this.#failingSince = askedAt;
    this.#failures += 1;
    if (this.#failures >= FAILURES || this.#run === undefined) this.#goDown(error);
    else this.#beat();
  }

  #heard(): Promise<void> {
    return new Promise((go, stop) => {
      if (this.#run !== undefined && this.#state === 'up') go();
      else this.#waiting.push({ go, stop });
    });
  }

  #wait(call: Call): void {
    this.#waiting.push({
      go: () => this.#send(call),
      stop: (error) => call.end() && call.failed(error),
    });
  }

  #send(call: Call): void {
    if (call.isDone) return;
    const { client, counters } = this.#context;
    const { keys, args } = call;
    const loaded = this.#script(call.name);
    if (!loaded.isLoaded && !this.#isJustHeard) {
      // Sent in full it would run on a server that has lost everything, and be known there to all nodes.
      this.#wait(call);
      this.#beat();
      return;
    }
    args[0] = this.#times.text(call.startedAt);
    const { script, isLoaded } = loaded;
    counters.inFlight += 1;
    const reply = isLoaded
      ? client.evalSha(script.sha, keys, args)
      : client.eval(script.text, keys, args);
    reply.then(
      (value) => {
        counters.inFlight -= 1;
        loaded.isLoaded = true;
        this.#replied(call, value);
      },
      (error) => {
        counters.inFlight -= 1;
        this.#refused(call, error);
      },
    );
  }

  #replied(call: Call, reply: unknown): void {
    if (call.isDone) return;
    if (Array.isArray(reply) && String(reply[0]) === 'late') {
      this.#times.isAt(Number(reply[1]), seconds());
      // It was not late by our clock: so what we took for the store's time was not.
      if (!call.isSentAgain && seconds() - call.startedAt < LATE_SECONDS / 2) this.#sendAgain(call);
      return;
    }
    this.#failures = 0;
    if (call.end()) call.answered(reply);
  }

  #refused(call: Call, error: unknown): void {
    const message = error instanceof Error ? error.message : String(error);
    if (message.startsWith('NOSCRIPT')) {
      // Another run of the server, another server, or somebody has flushed its scripts.
      this.#scripts.clear();
      this.#run = undefined;
      if (call.isDone) return;
      if (call.isSentAgain) this.#reject(call, error, message);
      else {
        call.isSentAgain = true;
        this.#wait(call);
      }
      this.#beat();
    } else if (/^(ERR )?WRONGTYPE/.test(message)) {
      if (call.end()) call.failed(storeError(message, error));
    } else {
      this.#reject(call, error, message);
    }
  }

  #reject(call: Call, cause: unknown, message: string): void {
    if (!call.end()) return;
    const error = new NoAnswer(message, { cause });
    this.#failed(error, call.startedAt);
    call.failed(error);
  }

  #sendAgain(call: Call): void {
    call.isSentAgain = true;
    this.#send(call);
  }

  #script(name: ScriptName): { script: Script; isLoaded: boolean } {
    let known = this.#scripts.get(name);
    if (known === undefined) {
      known = { script: script(name, this.#context.limit, this.#run ?? ''), isLoaded: false };
      this.#scripts.set(name, known);
    }
    return known;
  }

  #beat(): void {
    if (this.#isBeating || this.#isClosed) return;
    this.#isBeating = true;
    clearTimeout(this.#timer);
    // It may begin in a call that has failed, and goes on long after that.
    detached(() => this.#askForBeat());
  }

  #askForBeat(): void {
    const { client, deadlines, counters, holder } = this.#context;
    const beat = new Expiry((error) => this.#missed(error, beat.startedAt));
    counters.beats += 1;
    deadlines.add(beat);
    client.eval(BEAT, [this.#key], [holder]).then(
      (reply) => {
        this.#isBeating = false;
        // It is there, but too slow: or it was away, and is back.
        if (!beat.end()) this.#beat();
        else if (isBeatReply(reply)) this.#alive(reply);
        else this.#missed(strangeReply(), beat.startedAt);
      },
      (error) => {
        this.#isBeating = false;
        const message = error instanceof Error ? error.message : String(error);
        if (beat.end()) this.#missed(storeError(message, error), beat.startedAt);
        else this.#beatLater(BEAT_SECONDS.down);
      },
    );
  }

  #beatLater(inSeconds: number): void {
    clearTimeout(this.#timer);
    if (this.#isClosed) return;
    this.#timer = detached(() => setTimeout(() => this.#beat(), inSeconds * 1000));
    this.#timer.unref?.();
  }

  #missed(error: Error, askedAt: number): void {
    if (this.#failures === 0) this.#failingSince = askedAt;
    this.#context.counters.failures += 1;
    this.#goDown(error);
    for (const { stop } of this.#waiting.splice(0)) stop(error);
    if (!this.#isBeating) this.#beatLater(BEAT_SECONDS.down);
  }

  #goDown(reason: Error): void {
    if (this.#state === 'down') return;
    this.#state = 'down';
    this.#context.counters.downs += 1;
    this.#context.onChange({ state: 'down', shard: this.#number, reason });
    this.#beat();
  }

  #alive([runId, uptime, time, nodes]: BeatReply): void {
    const now = Number(time);
    const run = String(runId);
    const lostData = this.#hasLostData(run, Number(uptime), now);
    this.#times.isAt(now, seconds());
    if (this.#run !== run) this.#scripts.clear();
    this.#run = run;
    this.#lastRun = run;
    this.#seenAt = now;
    this.#sees(Math.max(1, Number(nodes)));
    const wasDown = this.#state === 'down';
    if (lostData) this.#times.isBackEmpty(now);
    else if (wasDown) this.#times.isBack(now, this.#givenWhileAway());
    this.#state = 'up';
    this.#failures = 0;
    this.#beatSeconds = wasDown
      ? BEAT_SECONDS.first
      : Math.min(this.#beatSeconds * 2, BEAT_SECONDS.most);
    this.#beatLater(this.#beatSeconds);
    if (wasDown || lostData) {
      this.#context.onChange({ state: 'up', shard: this.#number, ...(lostData && { lostData }) });
    }
    this.#isJustHeard = true;
    for (const { go } of this.#waiting.splice(0)) go();
    this.#isJustHeard = false;
  }

  #sees(nodes: number): void {
    this.#nodes = nodes;
    if (nodes < this.#mostNodes && seconds() < this.#mostUntil) return;
    this.#mostNodes = nodes;
    this.#mostUntil = seconds() + NODES_SECONDS;
  }

  /** A server that started after we last heard of this part of the store. */
  #hasLostData(run: string, uptime: number, now: number): boolean {
    if (this.#lastRun === undefined || this.#lastRun === run) return false;
    return uptime < 0 || now - uptime + 1 > this.#seenAt;
  }

  #givenWhileAway(): number {
    return this.#context.givenWhileAway(seconds() - this.#failingSince + NOTICE_SECONDS);
  }
}

type BeatReply = [run: string, uptime: number, time: string, nodes: number];

function isBeatReply(reply: unknown): reply is BeatReply {
  return Array.isArray(reply) && reply.length === 4 && reply.slice(1).every(isNumber);
}

/** The time by which calls are measured, whatever clock leases have. */
function seconds(): number {
  return performance.now() / 1000;
}
