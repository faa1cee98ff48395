// One guarded connection of any kind. It owns the state: whether the connection is guarded, which message is held, and
// whether its stream is paused. MessageGate decides on a message, this class acts on the decision: it delivers, drops or
// holds the message, or closes the connection. A subclass knows the protocol: how to deliver, to close and to destroy.

import { surface, tryCall } from '../common/callbacks.js';
import { inThisContext } from '../common/timers.js';
import { type CheckResult, RateLimitAction } from '../common/types.js';
import type { BucketWaiter } from './bucket-queue.js';
import type { ConnectionContext } from './connection-context.js';
import {
  MessageGate,
  type MessageGateOptions,
  type MessageRefusal,
  UNKNOWN_DELAY,
} from './message-gate.js';
import { type Pausable, PausableStream } from './pausable-stream.js';
import type { OpenRule } from './rules.js';
import {
  type Decision,
  type MessageOutcome,
  type MessageReason,
  PASSED,
  resultFields,
} from './verdicts.js';

export interface GuardedConnectionOptions extends MessageGateOptions {
  /** Milliseconds that the peer has to answer a close before the connection is destroyed. */
  readonly graceMilliseconds: number;
  /** Undefined if the user wants no verdicts. */
  readonly onVerdict: unknown;
}

interface HeldMessage<Data, Meta> {
  readonly data: Data;
  readonly meta: Meta;
  /** The index of the rule that it waits for. The rules before have allowed it and taken its cost. */
  readonly index: number;
}

/** Reasons that are no offence: a message that cannot wait for so long is not misuse, and neither is a failed cost. */
const INNOCENT: readonly MessageReason[] = ['pause', 'backlog', 'error'];
/** The result in a verdict if no limiter was called. */
const WITHOUT_LIMITER: CheckResult = [RateLimitAction.DISCONNECT, 0];

function doNothing(): void {}

export abstract class GuardedConnection<Data, Meta> implements BucketWaiter {
  protected readonly context: ConnectionContext;
  protected readonly stream: PausableStream;
  readonly #gate: MessageGate<Data, Meta>;
  readonly #rules: readonly OpenRule<Data, Meta>[];
  readonly #options: GuardedConnectionOptions;
  #state: 'guarded' | 'expelled' | 'released' = 'guarded';
  #destroyTimer: NodeJS.Timeout | undefined;
  #held: HeldMessage<Data, Meta> | undefined;
  #holdTimer: NodeJS.Timeout | undefined;
  /** Whether the connection is the first in the queue for the bucket, and so may check the limiter. */
  #isFirst = false;
  /** Continues in the async context of the held message, not in that of the connection before it in the queue. */
  #continue = doNothing;
  /** Whether the connection left the queue because its user has paused it; it checks again when the user resumes it. */
  #hasLeftQueue = false;

  protected constructor(
    stream: Pausable,
    rules: readonly OpenRule<Data, Meta>[],
    options: GuardedConnectionOptions,
    context: ConnectionContext,
  ) {
    this.context = context;
    this.#rules = rules;
    this.#options = options;
    this.#gate = new MessageGate(rules, options);
    this.stream = new PausableStream(stream, () => this.#resumedByUser());
  }

  /** Whether a message passes in any case. If the guard pauses, it still waits for the message's cost after that. */
  protected abstract isExempt(meta: Meta): boolean;
  /** Calls the listeners with a message. */
  protected abstract deliver(data: Data, meta: Meta): void;
  /** Calls `onVerdict`. @throws what `onVerdict` throws. */
  protected abstract report(data: Data, meta: Meta, key: string, decision: Decision): void;
  /** Checks the messages that arrived during the pause, and resumes the stream when none is left. */
  protected abstract processPending(): void;
  /** Discards the messages that arrived during the pause. */
  protected abstract discardPending(): void;
  /** Delivers the messages that arrived during the pause, without checks. */
  protected abstract deliverPending(): void;
  /** Begins to close the connection, and sends the peer the reason. */
  protected abstract beginClose(reason: MessageReason, words: string | undefined): void;
  /** Ends the connection at once. */
  protected abstract destroy(): void;
  /** Removes the guard's hooks from the socket. */
  protected abstract removeHooks(): void;

  protected get isGuarded(): boolean {
    return this.#state === 'guarded';
  }

  protected get isReleased(): boolean {
    return this.#state === 'released';
  }

  /** Whether a message is held. If so, no other message may be checked. */
  protected get isHolding(): boolean {
    return this.#held !== undefined;
  }

  /** Closes the connection because of a limit, or with the user's words; false if it is closing already. */
  expel(reason: MessageReason, words?: string): boolean {
    if (!this.isGuarded) return false;
    this.#stop();
    if (!INNOCENT.includes(reason)) this.context.countOffence();
    this.#destroyTimer = setTimeout(() => this.destroy(), this.#options.graceMilliseconds).unref();
    this.beginClose(reason, words);
    // A paused stream would not read the peer's answer.
    this.stream.resume();
    return true;
  }

  /** Ends the guard of the connection, and delivers the messages that wait. */
  release(): void {
    if (!this.isGuarded) return;
    this.#state = 'released';
    const held = this.#held;
    this.#releaseHeld();
    this.removeHooks();
    this.#remove();
    if (held !== undefined && !this.isExempt(held.meta)) this.deliverSafely(held.data, held.meta);
    this.deliverPending();
    this.stream.restore();
  }

  /** Called by the queue for the bucket. */
  becomeFirst(): void {
    if (this.#isFirst) return;
    this.#isFirst = true;
    this.#continue();
  }

  /** Checks a message and acts on a refusal: drops or holds the message, or closes. True if the message passes. */
  protected checkMessage(data: Data, meta: Meta): boolean {
    const refusal = this.#gate.check(data, meta, 0, false);
    if (refusal === undefined || this.#handleRefusals(refusal, data, meta)) return true;
    return this.isHolding && this.isExempt(meta);
  }

  /** Reports an allowed message and delivers it. */
  protected pass(data: Data, meta: Meta): void {
    if (this.#options.onVerdict !== undefined) {
      this.#report(data, meta, this.context.key, PASSED);
      // `onVerdict` may have expelled the connection.
      if (this.#state === 'expelled') return;
    }
    this.deliverSafely(data, meta);
  }

  /** A listener that throws must not stop the stream in the middle of a chunk: it might never continue. */
  protected deliverSafely(data: Data, meta: Meta): void {
    try {
      this.deliver(data, meta);
    } catch (error) {
      surface(error);
    }
  }

  /** Closes the connection because of a message for which no limiter was called. */
  protected refuse(data: Data, meta: Meta, reason: MessageReason): void {
    this.#reportRefusal(data, meta, this.context.key, WITHOUT_LIMITER, reason, 'closed');
    this.expel(reason);
  }

  /** The connection is closed, by either side. */
  protected closed(): void {
    if (this.isReleased) return;
    clearTimeout(this.#destroyTimer);
    this.#stop();
    this.#remove();
  }

  /** No message waits: the next pause has its full time. */
  protected endPause(): void {
    this.#gate.endPause();
  }

  /** Drops the held message; from here on, refused messages are dropped. */
  protected disablePauses(): void {
    this.#gate.disablePauses();
    this.#releaseHeld();
  }

  /** Acts on a refusal, and on those by later rules. True if the message passes in spite of them: it is exempt. */
  #handleRefusals(refusal: MessageRefusal, data: Data, meta: Meta): boolean {
    let next: MessageRefusal | undefined = refusal;
    while (next !== undefined) {
      if (!this.#handleRefusal(next, data, meta)) return false;
      next = this.#gate.check(data, meta, next.index + 1, false);
    }
    return true;
  }

  /** Acts on a refusal. True if the message passes the rule in spite of it: it is exempt. */
  #handleRefusal(refusal: MessageRefusal, data: Data, meta: Meta): boolean {
    const { index, verdict, reason, outcome, error } = refusal;
    if (reason === 'error') this.context.reportError(error);
    const isFinal = reason === 'disconnect' || reason === 'error';
    if (!isFinal && this.isExempt(meta)) return !this.#waitForCost(index, verdict[1], data, meta);
    const isNew = outcome !== 'paused' || !this.isHolding;
    // Hold the message before `onVerdict` is called: if `onVerdict` ends the guard, the held message is delivered. A cost
    // function may have ended the guard already.
    if (outcome === 'paused' && this.isGuarded) this.#hold({ data, meta, index }, verdict[1]);
    if (isNew) {
      const { key } = (this.#rules[index] as OpenRule<Data, Meta>).peer;
      this.#reportRefusal(data, meta, key, verdict, reason, outcome);
    }
    if (outcome === 'closed') this.expel(reason);
    return false;
  }

  /** Holds an exempt message for its cost; false if it must not wait. An exempt message never closes the connection. */
  #waitForCost(index: number, delaySeconds: number, data: Data, meta: Meta): boolean {
    const remaining = this.#gate.remainingSeconds;
    if (!this.#gate.canPause || !this.isGuarded || remaining === 0) return false;
    this.#hold({ data, meta, index }, Math.min(delaySeconds, remaining));
    return true;
  }

  #hold(message: HeldMessage<Data, Meta>, seconds: number): void {
    if (this.#held?.index !== message.index) this.#releaseHeld();
    const { queue, peer } = this.#rules[message.index] as OpenRule<Data, Meta>;
    this.#held = message;
    this.#hasLeftQueue = false;
    this.#gate.beginPause();
    this.#isFirst = queue.join(peer.key, this);
    if (!this.#isFirst) this.#continue = inThisContext(() => this.#holdEnded());
    // Rounded up and one more millisecond, since a timer may fire a fraction early: a second refusal would be a second
    // violation.
    const waitSeconds = this.#isFirst ? seconds : this.#gate.remainingSeconds;
    this.#holdTimer = setTimeout(() => this.#holdEnded(), Math.ceil(waitSeconds * 1000) + 1);
    this.stream.pause();
  }

  #holdEnded(): void {
    this.#stopHoldTimer();
    if (this.stream.isPausedByUser) {
      // The next connection in the queue must not wait until the user of this one resumes it.
      this.#leaveQueue();
      this.#hasLeftQueue = true;
    } else if (this.#isFirst) this.#checkHeld();
    else this.#pauseTooLong();
  }

  #checkHeld(): void {
    const { data, meta, index } = this.#held as HeldMessage<Data, Meta>;
    const refusal = this.#gate.check(data, meta, index, this.#isFirst);
    // A cost may have closed the guard, which has delivered the message then.
    if (!this.isGuarded) return;
    if (refusal === undefined || this.#handleRefusals(refusal, data, meta)) {
      this.#passHeld(data, meta);
    }
  }

  #passHeld(data: Data, meta: Meta): void {
    this.#releaseHeld();
    if (!this.isExempt(meta)) this.pass(data, meta);
    this.#processPending();
  }

  #pauseTooLong(): void {
    const { data, meta, index } = this.#held as HeldMessage<Data, Meta>;
    if (this.isExempt(meta)) {
      this.#passHeld(data, meta);
      return;
    }
    const { key } = (this.#rules[index] as OpenRule<Data, Meta>).peer;
    this.#reportRefusal(data, meta, key, UNKNOWN_DELAY, 'backlog', 'closed');
    this.expel('backlog');
  }

  #resumedByUser(): void {
    // The time during which the user had paused the stream does not count: the messages did not wait for a limit.
    this.#gate.endPause();
    if (this.#hasLeftQueue) {
      this.#hasLeftQueue = false;
      this.#checkHeld();
    }
    this.#processPending();
  }

  #processPending(): void {
    if (this.isGuarded && !this.isHolding) this.processPending();
  }

  #releaseHeld(): void {
    this.#leaveQueue();
    this.#held = undefined;
    this.#hasLeftQueue = false;
  }

  #leaveQueue(): void {
    this.#stopHoldTimer();
    this.#isFirst = false;
    this.#continue = doNothing;
    if (this.#held === undefined) return;
    const { queue, peer } = this.#rules[this.#held.index] as OpenRule<Data, Meta>;
    queue.leave(peer.key, this);
  }

  #stopHoldTimer(): void {
    clearTimeout(this.#holdTimer);
    this.#holdTimer = undefined;
  }

  #reportRefusal(
    data: Data,
    meta: Meta,
    key: string,
    verdict: CheckResult,
    reason: MessageReason,
    did: MessageOutcome,
  ): void {
    if (this.#options.onVerdict === undefined) return;
    this.#report(data, meta, key, { did, reason, ...resultFields(verdict) });
  }

  #report(data: Data, meta: Meta, key: string, decision: Decision): void {
    tryCall(() => this.report(data, meta, key, decision), this.context.reportError);
  }

  #stop(): void {
    this.#state = 'expelled';
    this.#releaseHeld();
    this.discardPending();
  }

  #remove(): void {
    for (const rule of this.#rules) rule.close();
    this.context.remove();
  }
}
