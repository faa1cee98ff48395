// Whether a shard answers, learned from heartbeats and calls: its state, the server's run, and the number of nodes.
// After failures in a row the shard is down and only heartbeats are sent to it; a heartbeat that is answered in time
// brings it up again. A shard that answers calls is not down, however late its other answers are.

import { detached } from '../../common/timers.js';
import type { StoreClient } from './client.js';
import { type Deadlines, PendingReply } from './deadlines.js';
import { evalInTime } from './eval-in-time.js';
import {
  HEARTBEAT,
  type HeartbeatReply,
  readHeartbeatReply,
  UNREGISTER,
} from './heartbeat-scripts.js';
import type { Limit } from './limit.js';
import { invalidReplyError, messageOf, storeError } from './replies.js';
import type { StoreClock } from './store-clock.js';
import { nowSeconds, nowWithPauses, RETRY_SECONDS, startTimer, type Timer } from './timing.js';

/** Whether a shard of the store answers. */
export type ShardState = 'up' | 'down';

/** A change of the store, or of one shard of a cluster. */
export interface StateChange {
  readonly state: ShardState;
  /** The number of the shard. It is 0 if the store is not a cluster. */
  readonly shard: number;
  /** Why the shard is down. */
  readonly reason?: Error;
  /** True if the shard is up but has lost its data: every bucket starts empty. */
  readonly lostData?: boolean;
}

/** What a node has counted of its calls to the store. */
export interface StoreCounters {
  /** Scripts called for peers. */
  calls: number;
  /** Heartbeats. */
  beats: number;
  /** Calls that failed or got no reply in time. */
  failures: number;
  /** How often a shard went down. */
  downs: number;
  /** Calls without a reply so far, whether their deadline has passed or not. */
  inFlight: number;
}

/** The store as a process sees it, with what it has counted of its calls. */
export interface StoreStats<State = ShardState> extends StoreCounters {
  /** `down` while the store, or any shard of it, does not answer. */
  state: State;
  /** Processes last seen that share the limit, with this one. */
  nodes: number;
}

/** What the shards of a store have in common. @internal */
export interface HealthContext {
  readonly client: StoreClient;
  readonly limit: Limit;
  /** The number by which the store knows this node. */
  readonly nodeId: string;
  /** When this node began, by `nowWithPauses`. */
  readonly bornAt: number;
  readonly deadlines: Deadlines;
  readonly counters: StoreCounters;
  /** The most tokens that a peer may have got without the store in so many seconds. */
  readonly givenWhileDown: (seconds: number) => number;
  readonly onChange: (change: StateChange) => void;
}

export interface HealthListener {
  /** A heartbeat has been answered: the shard is up, and `runId` is current. */
  onAlive(): void;
  /** A heartbeat has failed. */
  onFailure(error: Error): void;
}

/** Failures in a row after which a shard is down. */
const MAX_FAILURES = 3;
const FIRST_HEARTBEAT_SECONDS = 0.5;
const MAX_HEARTBEAT_SECONDS = 5;
/** Other nodes may have noticed an outage so much earlier than this one. */
const NOTICE_SECONDS = 1;
/** How long the largest number of nodes is remembered: after a restart of the store the first node sees only itself. */
const NODES_SECONDS = 300;
/** The state before the first answered heartbeat. */
const NO_BEAT = { number: 0, runId: '-', epoch: '-' };

/** The health of one shard. @internal */
export class ShardHealth {
  readonly #context: HealthContext;
  readonly #shard: number;
  /** The nodes, and the memory of losses. */
  readonly #keys: string[];
  readonly #clock: StoreClock;
  readonly #listener: HealthListener;
  #state: ShardState = 'up';
  #nodes = 1;
  #maxNodes = 1;
  #maxNodesUntil = Number.NEGATIVE_INFINITY;

  #runId: string | undefined;
  /** Heartbeats sent. */
  #beats = 0;
  /** The last answered heartbeat: its number, when it was sent (by `nowWithPauses`), and what it replied. */
  #answered: { number: number; sentAt: number; runId: string; epoch: string };
  /** When a call was last answered, and when one was last answered within its deadline. */
  #lastAnswerAt = Number.NEGATIVE_INFINITY;
  #lastTimelyAnswerAt = Number.NEGATIVE_INFINITY;

  #failures = 0;
  #failingSince = 0;
  #isBeating = false;
  #heartbeatSeconds = FIRST_HEARTBEAT_SECONDS;
  #timer: Timer | undefined;
  #isClosed = false;

  /** `key`: what the shard's own keys begin with. */
  constructor(
    context: HealthContext,
    shard: number,
    key: string,
    clock: StoreClock,
    listener: HealthListener,
  ) {
    this.#context = context;
    this.#shard = shard;
    this.#keys = [`${key}#nodes`, `${key}#losses`];
    this.#clock = clock;
    this.#listener = listener;
    this.#answered = { ...NO_BEAT, sentAt: context.bornAt };
  }

  get state(): ShardState {
    return this.#state;
  }

  /** The id of the server's run; undefined before the first answered heartbeat and after `forgetRun`. */
  get runId(): string | undefined {
    return this.#runId;
  }

  /** The number of nodes last seen, with this one; at least 1. */
  get nodes(): number {
    return this.#nodes;
  }

  /** The largest number of nodes seen within the last five minutes. */
  get maxNodes(): number {
    return this.#maxNodes;
  }

  /** Whether a call has been answered since a time, in time or not. */
  hasAnsweredSince(time: number): boolean {
    return this.#lastAnswerAt > time;
  }

  /** Sends a heartbeat, unless one is in flight. */
  beat(): void {
    if (this.#isBeating || this.#isClosed) return;
    this.#isBeating = true;
    clearTimeout(this.#timer);
    // A heartbeat may be sent from a caller's failed call, but outlives that call by far.
    detached(() => this.#sendHeartbeat());
  }

  /** Records that a call has been answered, within its deadline or later. */
  recordAnswer(isTimely: boolean): void {
    this.#failures = 0;
    this.#lastAnswerAt = nowSeconds();
    if (isTimely) this.#lastTimelyAnswerAt = this.#lastAnswerAt;
  }

  /** Records that a call started at `startedAt` has failed. */
  recordFailure(error: Error, startedAt: number): void {
    this.#context.counters.failures += 1;
    if (this.#state === 'down') return;
    if (this.#failures === 0) this.#failingSince = startedAt;
    this.#failures += 1;
    if (this.#failures >= MAX_FAILURES || this.#runId === undefined) this.#markDown(error);
    else this.beat();
  }

  /** Forgets the server's run, since the server turned out not to know its scripts. */
  forgetRun(): void {
    this.#runId = undefined;
  }

  /** Stops heartbeats and unregisters this node. */
  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    if (this.#state === 'down') return;
    const { nodeId } = this.#context;
    await new Promise<void>((resolve) => {
      const settled = () => resolve();
      evalInTime(this.#context, UNREGISTER, this.#keys, [nodeId], settled, settled);
    });
  }

  #sendHeartbeat(): void {
    const { client, deadlines, counters } = this.#context;
    this.#beats += 1;
    const number = this.#beats;
    const pending = new PendingReply((error, wasBlocked) => {
      this.#heartbeatLate(number, pending.startedAt, error, wasBlocked);
    });
    const sentAt = nowWithPauses();
    counters.beats += 1;
    deadlines.add(pending);
    client.eval(HEARTBEAT, this.#keys, [this.#heartbeatArgument(number, sentAt)]).then(
      (value) => {
        this.#isBeating = false;
        const reply = readHeartbeatReply(value);
        // A late reply: the shard is too slow, or has just returned. The next heartbeat decides which.
        if (!pending.end()) this.beat();
        else if (reply === undefined) this.#heartbeatFailed(invalidReplyError(), pending.startedAt);
        else this.#heartbeatAnswered(reply, number, sentAt, pending.startedAt);
      },
      (cause) => {
        this.#isBeating = false;
        const error = storeError(messageOf(cause), cause);
        // The two keys are on two servers of a cluster for the moment in which their slot moves.
        const isMoving = messageOf(cause).startsWith('TRYAGAIN');
        if (pending.end() && !isMoving) this.#heartbeatFailed(error, pending.startedAt);
        else this.#scheduleHeartbeat(RETRY_SECONDS);
      },
    );
  }

  #heartbeatArgument(number: number, sentAt: number): string {
    const { nodeId, limit } = this.#context;
    const { number: answered, runId, epoch, sentAt: answeredAt } = this.#answered;
    const halfSeconds = this.#clock.halfSeconds(nowSeconds());
    const { shortLeaseSeconds, leaseSeconds } = limit;
    const numbers = [sentAt - answeredAt, halfSeconds, shortLeaseSeconds, leaseSeconds];
    return [nodeId, number, answered, runId, epoch, ...numbers].join(' ');
  }

  #scheduleHeartbeat(seconds: number): void {
    clearTimeout(this.#timer);
    if (this.#isClosed) return;
    this.#timer = startTimer(() => this.beat(), seconds * 1000);
  }

  /**
   * The heartbeat `number`, for which the store has been given a deadline since `startedAt`, has no reply. If calls have been
   * answered in time since, they are many, and it waits its turn; if this process was blocked, the reply may be there soon.
   * Then the store has another deadline to answer anything.
   */
  #heartbeatLate(number: number, startedAt: number, error: Error, wasBlocked: boolean): void {
    if (this.#state === 'up' && (wasBlocked || this.#lastTimelyAnswerAt > startedAt)) {
      const again: PendingReply = new PendingReply((_, isBlocked) => {
        const isPending = this.#isBeating && this.#beats === number;
        if (isPending) this.#heartbeatLate(number, again.startedAt, error, isBlocked);
      });
      this.#context.deadlines.add(again);
    } else {
      this.#heartbeatFailed(error, startedAt);
    }
  }

  #heartbeatFailed(error: Error, startedAt: number): void {
    if (this.#failures === 0) this.#failingSince = startedAt;
    this.#context.counters.failures += 1;
    this.#markDown(error);
    this.#listener.onFailure(error);
    if (!this.#isBeating) this.#scheduleHeartbeat(RETRY_SECONDS);
  }

  #markDown(reason: Error): void {
    if (this.#state === 'down') return;
    this.#state = 'down';
    this.#context.counters.downs += 1;
    this.#context.onChange({ state: 'down', shard: this.#shard, reason });
    this.beat();
  }

  #heartbeatAnswered(
    { runId, storeTime, nodes, epoch, loss }: HeartbeatReply,
    number: number,
    sentAt: number,
    startedAt: number,
  ): void {
    const isFirst = this.#answered.number === 0;
    this.#clock.synchronize(storeTime, startedAt, nowSeconds());
    this.#runId = runId;
    this.#answered = { number, sentAt, runId, epoch };
    this.#recordNodes(nodes);
    const wasDown = this.#state === 'down';
    const isNewLoss = loss !== undefined && this.#clock.recordDataLoss(loss, storeTime);
    if (!isNewLoss && wasDown) this.#clock.recordOutage(storeTime, this.#givenWhileDown());
    // A loss from before this node's first heartbeat is no event of its time.
    const lostData = isNewLoss && (!isFirst || wasDown);
    this.#state = 'up';
    this.#failures = 0;
    this.#heartbeatSeconds = wasDown
      ? FIRST_HEARTBEAT_SECONDS
      : Math.min(this.#heartbeatSeconds * 2, MAX_HEARTBEAT_SECONDS);
    this.#scheduleHeartbeat(this.#heartbeatSeconds);
    if (wasDown || lostData) {
      this.#context.onChange({ state: 'up', shard: this.#shard, ...(lostData && { lostData }) });
    }
    this.#listener.onAlive();
  }

  #recordNodes(nodes: number): void {
    this.#nodes = nodes;
    if (nodes < this.#maxNodes && nowSeconds() < this.#maxNodesUntil) return;
    this.#maxNodes = nodes;
    this.#maxNodesUntil = nowSeconds() + NODES_SECONDS;
  }

  #givenWhileDown(): number {
    return this.#context.givenWhileDown(nowSeconds() - this.#failingSince + NOTICE_SECONDS);
  }
}
