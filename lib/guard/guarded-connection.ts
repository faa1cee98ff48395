// One guarded connection of any kind. It owns the state: whether the connection is guarded, which message waits, and whether
// its stream is paused. MessageGate decides on a message, this class acts on the decision: it delivers, drops or
// holds the message, or closes the connection. A subclass knows the protocol: how to deliver, to close and to destroy.
// There are very many messages: one that is allowed, not classified and has no warning allocates nothing here.

import { surface, tryCall } from '../common/callbacks.js';
import { unref } from '../common/timers.js';
import type { AnyRulePeer } from '../rules/any-rules.js';
import type { Classification } from '../rules/types.js';
import type { ConnectionContext } from './connection-context.js';
import {
  type MessageDecision,
  MessageGate,
  type MessageGateOptions,
  type MessageRefusal,
  type PendingCheck,
  type Progress,
  START,
} from './message-gate.js';
import { type HeldMessage, MessageHold, type WaitingMessage } from './message-hold.js';
import type { OpenRule } from './open-rule.js';
import { type Pausable, PausableStream } from './pausable-stream.js';
import type { OpenMessageLimits } from './rules.js';
import {
  type Answer,
  type Decision,
  isOffence,
  type MessageReason,
  PASSED,
  UNKNOWN_DELAY,
  WITHOUT_LIMITER,
} from './verdicts.js';

export interface GuardedConnectionOptions extends MessageGateOptions {
  /** Milliseconds that the peer has to answer a close before the connection is destroyed. */
  readonly graceMilliseconds: number;
  /** Undefined if the user wants no verdicts. */
  readonly onVerdict: unknown;
}

export abstract class GuardedConnection<Data, Meta> {
  /** The peer of the RuleLimiter. */
  readonly peer: AnyRulePeer | undefined;
  protected readonly context: ConnectionContext;
  protected readonly stream: PausableStream;
  readonly #gate: MessageGate<Data, Meta>;
  readonly #rules: readonly OpenRule<Data, Meta>[];
  readonly #options: GuardedConnectionOptions;
  #state: 'guarded' | 'expelled' | 'released' = 'guarded';
  #destroyTimer: NodeJS.Timeout | undefined;
  readonly #hold = new MessageHold<Data, Meta>(
    () => this.#holdEnded(),
    () => this.#limiterChanged(),
  );
  /** What a limiter has not answered yet. A held message that is checked again is held and unanswered. */
  #unanswered: WaitingMessage<Data, Meta> | undefined;
  /** Handles an answer that came while the user had paused the stream. */
  #handleLate: (() => void) | undefined;
  /** Whether the connection left the queue because its user has paused it; it checks again when the user resumes it. */
  #hasLeftQueue = false;

  protected constructor(
    stream: Pausable,
    { rules, peer }: OpenMessageLimits<Data, Meta>,
    options: GuardedConnectionOptions,
    context: ConnectionContext,
  ) {
    this.context = context;
    this.peer = peer;
    this.#rules = rules;
    this.#options = options;
    this.#gate = new MessageGate(rules, options);
    this.stream = new PausableStream(stream, () => this.#resumedByUser());
  }

  /** Whether a message passes in any case. If the guard pauses, it still waits for the message's cost after that. */
  protected abstract isExempt(meta: Meta): boolean;
  /** Calls the user's `classify`. @throws what it throws, and an error for an invalid result */
  protected abstract classify(data: Data, meta: Meta): Classification | undefined;
  /** Calls the listeners with a message. */
  protected abstract deliver(data: Data, meta: Meta, message: Classification | undefined): void;
  /** Calls `onVerdict` and returns its result. @throws what `onVerdict` throws. */
  protected abstract report(data: Data, meta: Meta, key: string, decision: Decision): unknown;
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

  get #isExpelled(): boolean {
    return this.#state === 'expelled';
  }

  protected get isReleased(): boolean {
    return this.#state === 'released';
  }

  /** Whether a message is held or a limiter has not answered yet. If so, no other message may be checked. */
  protected get isHolding(): boolean {
    return this.#hold.held !== undefined || this.#unanswered !== undefined;
  }

  /** Closes the connection because of a limit, or with the user's words; false if it is closing already. */
  expel(reason: MessageReason, words?: string): boolean {
    if (!this.isGuarded) return false;
    this.#stop();
    this.context.counters.countClosed(reason);
    if (isOffence(reason)) this.context.countOffence();
    this.#destroyTimer = setTimeout(() => this.destroy(), this.#options.graceMilliseconds);
    unref(this.#destroyTimer);
    this.beginClose(reason, words);
    // A paused stream would not read the peer's answer.
    this.stream.resume();
    return true;
  }

  /** Ends the guard of the connection, and delivers the messages that wait. */
  release(): void {
    if (!this.isGuarded) return;
    this.#state = 'released';
    const waiting = this.#unanswered ?? this.#hold.held;
    this.#releaseHeld();
    this.removeHooks();
    this.#remove();
    if (waiting !== undefined && !this.isExempt(waiting.meta)) {
      this.deliverSafely(waiting.data, waiting.meta, waiting.message);
    }
    this.deliverPending();
    this.stream.restore();
  }

  /**
   * Checks a message, and delivers, drops or holds it, or closes. `isDelivered`: its listeners have got it already, since
   * it is exempt.
   */
  protected take(data: Data, meta: Meta, isDelivered = false): void {
    let message: Classification | undefined;
    try {
      message = this.classify(data, meta);
    } catch (error) {
      this.context.reportError(error);
      this.refuse(data, meta, 'error', UNKNOWN_DELAY);
      return;
    }
    const passed = this.#settle(this.#check(data, meta, message, START), data, meta, message);
    // An exempt message that waits for its cost is delivered at once.
    const isExempt = passed === undefined && this.isHolding && this.isExempt(meta);
    if (isDelivered || (passed === undefined && !isExempt)) return;
    this.pass(data, meta, message, passed);
  }

  /** Reports an allowed message and delivers it. */
  protected pass(
    data: Data,
    meta: Meta,
    message: Classification | undefined,
    decision: Decision = PASSED,
  ): void {
    // `classify`, a cost or `onVerdict` may have expelled the connection.
    if (this.#isExpelled) return;
    this.context.counters.passed += 1;
    // Not without `onVerdict`: the closure in #report would allocate.
    if (this.#options.onVerdict !== undefined) {
      this.#report(data, meta, this.context.key, decision);
    }
    if (!this.#isExpelled) this.deliverSafely(data, meta, message);
  }

  /** Delivers a message without a check, with its classification if `classify` does not throw. */
  protected deliverUnchecked(data: Data, meta: Meta): void {
    const message = tryCall(() => this.classify(data, meta), this.context.reportError);
    this.deliverSafely(data, meta, message);
  }

  /** A listener that throws must not stop the stream in the middle of a chunk: it might never continue. */
  protected deliverSafely(data: Data, meta: Meta, message: Classification | undefined): void {
    try {
      this.deliver(data, meta, message);
    } catch (error) {
      surface(error);
    }
  }

  /** Closes the connection because of a message for which no limiter was called. */
  protected refuse(
    data: Data,
    meta: Meta,
    reason: MessageReason,
    answer: Answer = WITHOUT_LIMITER,
  ): void {
    this.#report(data, meta, this.context.key, { ...answer, did: 'closed', reason });
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

  /** Drops the message that waits; from here on, refused messages are dropped. */
  protected disablePauses(): void {
    this.#gate.disablePauses();
    this.#releaseHeld();
  }

  #check(
    data: Data,
    meta: Meta,
    message: Classification | undefined,
    from: Progress,
  ): MessageDecision | undefined {
    // `classify` or a cost may have ended the guard, and with it the peers of the limiters.
    return this.isGuarded ? this.#gate.check(data, meta, message, from) : undefined;
  }

  /** Acts on a decision, and on those by later rules. Returns how the message passes, or undefined if it does not. */
  #settle(
    first: MessageDecision | undefined,
    data: Data,
    meta: Meta,
    message: Classification | undefined,
  ): Decision | undefined {
    let next = first;
    while (next !== undefined) {
      if (next.outcome === 'passed') return next.decision;
      if (next.outcome === 'pending') {
        // A cost may have ended the guard: the answer has no effect any more.
        if (!this.isGuarded) return PASSED;
        this.#awaitAnswer(next, { data, meta, message });
        return undefined;
      }
      if (!this.#handleRefusal(next, data, meta, message)) return undefined;
      next = this.#check(data, meta, message, after(next));
    }
    return PASSED;
  }

  #awaitAnswer({ answer }: PendingCheck, unanswered: WaitingMessage<Data, Meta>): void {
    this.#unanswered = unanswered;
    this.stream.pause();
    answer.then((decide) => this.#answered(unanswered, decide));
  }

  #answered(
    unanswered: WaitingMessage<Data, Meta>,
    decide: () => MessageDecision | undefined,
  ): void {
    // The connection has been closed, expelled or released since.
    if (this.#unanswered !== unanswered) return;
    if (this.stream.isPausedByUser) {
      // The next connection in the queue must not wait until the user of this one resumes it.
      this.#hold.leaveQueue();
      this.#handleLate = () => this.#answered(unanswered, decide);
      return;
    }
    this.#unanswered = undefined;
    const { data, meta, message } = unanswered;
    const passed = this.#settle(decide(), data, meta, message);
    if (passed === undefined) this.#processPending();
    else this.#passWaiting(unanswered, passed);
  }

  /** Acts on a refusal. True if the message passes the rule in spite of it: it is exempt. */
  #handleRefusal(
    refusal: MessageRefusal,
    data: Data,
    meta: Meta,
    message: Classification | undefined,
  ): boolean {
    const { index, decision, reason, outcome, key, bucket, error } = refusal;
    if (reason === 'error') this.context.reportError(error);
    const { warning, delaySeconds } = decision;
    const held = bucket && {
      data,
      meta,
      message,
      progress: { index, warning, isFirst: false },
      bucket,
      key,
    };
    const isFinal = reason === 'disconnect' || reason === 'denied' || reason === 'error';
    if (!isFinal && this.isExempt(meta)) return !this.#waitForCost(held, delaySeconds);
    const isNew = outcome !== 'paused' || !this.isHolding;
    // Hold the message before `onVerdict` is called: if `onVerdict` ends the guard, the held message is delivered. A cost
    // function may have ended the guard already.
    if (held !== undefined && outcome === 'paused' && this.isGuarded) {
      this.#holdMessage(held, delaySeconds);
    }
    if (isNew) {
      this.context.counters.countRefusal(outcome, reason);
      this.#report(data, meta, key, decision);
    }
    if (outcome === 'closed') this.expel(reason);
    return false;
  }

  /** Holds an exempt message for its cost; false if it must not wait. An exempt message never closes the connection. */
  #waitForCost(held: HeldMessage<Data, Meta> | undefined, delaySeconds: number): boolean {
    const remaining = this.#gate.remainingSeconds;
    if (held === undefined || !this.#gate.canPause || !this.isGuarded || remaining === 0) {
      return false;
    }
    this.#holdMessage(held, Math.min(delaySeconds, remaining));
    return true;
  }

  #holdMessage(held: HeldMessage<Data, Meta>, seconds: number): void {
    if (this.#hold.held === undefined) this.context.counters.paused += 1;
    this.#hasLeftQueue = false;
    this.#gate.beginPause();
    this.#hold.hold(held, (isFirst) => (isFirst ? seconds : this.#gate.remainingSeconds));
    this.stream.pause();
  }

  #holdEnded(): void {
    if (this.stream.isPausedByUser) {
      // The next connection in the queue must not wait until the user of this one resumes it.
      this.#hold.leaveQueue();
      this.#hasLeftQueue = true;
    } else if (this.#hold.isFirst) this.#checkHeld();
    else this.#pauseTooLong();
  }

  /** Checks the held message if it would not be delayed any more: a check that is refused would be a violation. */
  #limiterChanged(): void {
    const { data, meta, message, progress } = this.#hold.held as HeldMessage<Data, Meta>;
    const rule = this.#rules[progress.index] as OpenRule<Data, Meta>;
    // The check reports what it throws.
    const seconds = tryCall(() => rule.delayOf(data, meta, message), doNothing) ?? 0;
    if (seconds === 0) this.#holdEnded();
    else this.#hold.restart(Math.min(seconds, this.#gate.remainingSeconds));
  }

  #checkHeld(): void {
    const held = this.#hold.held as HeldMessage<Data, Meta>;
    const { data, meta, message, progress } = held;
    const from = { ...progress, isFirst: this.#hold.isFirst };
    const decision = this.#gate.check(data, meta, message, from);
    // A cost may have closed the guard, which has delivered the message then.
    if (!this.isGuarded) return;
    const passed = this.#settle(decision, data, meta, message);
    if (passed !== undefined) this.#passWaiting(held, passed);
  }

  #passWaiting({ data, meta, message }: WaitingMessage<Data, Meta>, decision: Decision): void {
    this.#releaseHeld();
    if (!this.isExempt(meta)) this.pass(data, meta, message, decision);
    this.#processPending();
  }

  #pauseTooLong(): void {
    const held = this.#hold.held as HeldMessage<Data, Meta>;
    const { data, meta, key } = held;
    if (this.isExempt(meta)) {
      this.#passWaiting(held, PASSED);
      return;
    }
    this.#report(data, meta, key, { ...UNKNOWN_DELAY, did: 'closed', reason: 'backlog' });
    this.expel('backlog');
  }

  #resumedByUser(): void {
    // The time during which the user had paused the stream does not count: the messages did not wait for a limit.
    this.#gate.endPause();
    const handleLate = this.#handleLate;
    this.#handleLate = undefined;
    handleLate?.();
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
    if (this.#hold.held !== undefined) this.context.counters.paused -= 1;
    this.#hold.release();
    this.#unanswered = undefined;
    this.#handleLate = undefined;
    this.#hasLeftQueue = false;
  }

  #report(data: Data, meta: Meta, key: string, decision: Decision): void {
    if (this.#options.onVerdict === undefined) return;
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

/** The check of an exempt message goes on behind the rule that refused it. */
function after({ index, decision: { warning } }: MessageRefusal): Progress {
  return { index: index + 1, warning, isFirst: false };
}

function doNothing(): void {}
