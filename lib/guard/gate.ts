// The gate that the messages of one connection pass, one by one, in their order. Guarantees that none
// passes which a limit refuses: it is dropped, or waits at the gate, which is shut meanwhile, until the
// limit has allowed it. Knows no sockets: whoever has one pauses it.

import { monotonicSeconds } from '../common/clock.js';
import { inThisContext } from '../common/timers.js';
import { type CheckResult, RateLimitAction } from '../common/types.js';
import type { OpenRule } from './rules.js';

/** Why a message did not pass, or not at once. */
export type MessageReason =
  /** A limit was reached. */
  | 'rate'
  /** A limiter said DISCONNECT: a ban, or too many violations. */
  | 'disconnect'
  /** The cost is above the burst: it would never pass. */
  | 'cost'
  /** It would have to wait for longer than `maxPauseSeconds`. */
  | 'pause'
  /** Too many messages wait already, or those before it have taken the time: they came in one piece. */
  | 'backlog'
  /** A line, or a WebSocket message, is longer than it may be. */
  | 'length'
  /** Its user called `expel`. */
  | 'expelled'
  /** A cost or a limiter threw; `onError` was told. */
  | 'error';

export interface GateOptions {
  readonly onDelay: 'drop' | 'pause';
  readonly maxPauseSeconds: number;
}

/** What becomes of messages. A message is its data and what else is known of it. */
export interface Passage<Data, About> {
  /** Whether it passes in any case. Where the gate pauses it waits all the same, once it has passed: for its cost. */
  isExempt(about: About): boolean;
  /** Whether its user wants nothing now. */
  readonly isPaused: boolean;
  /** The gate is shut: nothing may be offered until what waits there has `passed`. */
  shut(): void;
  /** What waited may pass, or has done so before if it is exempt; the gate is open. */
  passed(data: Data, about: About): void;
  /** Told of a refusal before the connection is closed for it; of a message that waits, once. */
  refused(
    data: Data,
    about: About,
    key: string,
    verdict: CheckResult,
    reason: MessageReason,
    did: Did,
  ): void;
  failed(error: unknown): void;
  /** The connection has to be closed; the gate takes nothing any more. */
  expel(reason: MessageReason): unknown;
}

export type Did = 'dropped' | 'paused' | 'closed';

interface Held<Data, About> {
  readonly data: Data;
  readonly about: About;
  /** The rule that it waits for: those before have allowed it already, and taken its cost. */
  readonly index: number;
}

const FAILED: CheckResult = Object.freeze([RateLimitAction.DELAY, 0] as const);
/** Others wait for the bucket: nobody knows for how long. */
const BEHIND: CheckResult = Object.freeze([RateLimitAction.DELAY, 0] as const);

function doNothing(): void {}

export class Gate<Data, About> {
  readonly #rules: readonly OpenRule<Data, About>[];
  readonly #maxPauseSeconds: number;
  readonly #passage: Passage<Data, About>;
  #pauses: boolean;
  #held: Held<Data, About> | undefined;
  /** Whether it is its turn to ask. */
  #isFirst = false;
  #timer: NodeJS.Timeout | undefined;
  /** Goes on in the async context of the message that waits, not of whoever was before it. */
  #goOn = doNothing;
  /** Whether it asks again only once its user wants messages. */
  #hasLeft = false;
  /** When something began to wait; undefined once nothing does. */
  #since: number | undefined;
  #hasEnded = false;

  constructor(
    rules: readonly OpenRule<Data, About>[],
    options: GateOptions,
    passage: Passage<Data, About>,
  ) {
    this.#rules = rules;
    this.#pauses = options.onDelay === 'pause';
    this.#maxPauseSeconds = options.maxPauseSeconds;
    this.#passage = passage;
  }

  /** Whether a message waits here. */
  get isShut(): boolean {
    return this.#held !== undefined;
  }

  /** Whether a message may pass, unless the gate is shut. If not, what follows has been done. */
  allows(data: Data, about: About): boolean {
    if (this.#ask(data, about, 0, false)) return true;
    return this.isShut && this.#passage.isExempt(about);
  }

  /** Nothing waits any more, neither here nor with whoever offers. */
  drained(): void {
    this.#since = undefined;
  }

  /** Its user wants messages again; what waited meanwhile did not wait for a limit. */
  resumed(): void {
    this.#since = undefined;
    if (!this.#hasLeft) return;
    this.#hasLeft = false;
    this.#retry();
  }

  /** From now on nothing waits. */
  drop(): void {
    this.#pauses = false;
    this.#open();
  }

  /** Nothing passes any more. Returns what waited here, and forgets it. */
  end(): Held<Data, About> | undefined {
    this.#hasEnded = true;
    const held = this.#held;
    this.#open();
    return held;
  }

  /** Called by those who wait for the same bucket. @internal */
  turn(): void {
    if (this.#isFirst) return;
    this.#isFirst = true;
    this.#goOn();
  }

  /** `hasTurn`: at the rule `from` nobody is before it. */
  #ask(data: Data, about: About, from: number, hasTurn: boolean): boolean {
    const rules = this.#rules;
    for (let index = from; index < rules.length; index += 1) {
      const rule = rules[index] as OpenRule<Data, About>;
      const verdict = this.#verdict(rule, data, about, hasTurn && index === from);
      if (verdict === undefined || verdict[0] === RateLimitAction.ALLOW) continue;
      if (!this.#refuse({ data, about, index }, verdict)) return false;
    }
    return true;
  }

  #verdict(
    { cost, peer, turns }: OpenRule<Data, About>,
    data: Data,
    about: About,
    hasTurn: boolean,
  ): CheckResult | undefined {
    try {
      const tokens = cost(data, about);
      if (tokens === undefined) return undefined;
      const waits =
        !turns.isIdle && this.#pauses && !hasTurn && tokens > 0 && turns.isTaken(peer.key);
      return waits ? BEHIND : peer.check(tokens);
    } catch (error) {
      this.#passage.failed(error);
      return FAILED;
    }
  }

  /** Whether this rule lets it pass all the same. */
  #refuse(item: Held<Data, About>, verdict: CheckResult): boolean {
    const reason = this.#reason(verdict);
    const did = this.#follows(reason);
    const isFinal = reason === 'disconnect' || reason === 'error';
    if (!isFinal && this.#passage.isExempt(item.about)) return !this.#waitsForCost(item, verdict);
    const isNews = did !== 'paused' || !this.isShut;
    // First, or it would be lost where whoever is told ends the guard. A cost may have ended it already.
    if (did === 'paused' && !this.#hasEnded) this.#wait(item, verdict[1]);
    if (isNews) this.#tell(item, verdict, reason, did);
    // Whoever is told may have closed the connection.
    if (did === 'closed' && !this.#hasEnded) this.#expel(reason);
    return false;
  }

  /** What is exempt closes no connection: where it has to wait for too long its cost is let go. */
  #waitsForCost(item: Held<Data, About>, [, delaySeconds]: CheckResult): boolean {
    const left = this.#secondsLeft();
    if (!this.#pauses || this.#hasEnded || left === 0) return false;
    this.#wait(item, Math.min(delaySeconds, left));
    return true;
  }

  #tell(item: Held<Data, About>, verdict: CheckResult, reason: MessageReason, did: Did): void {
    const { key } = (this.#rules[item.index] as OpenRule<Data, About>).peer;
    this.#passage.refused(item.data, item.about, key, verdict, reason, did);
  }

  #reason(verdict: CheckResult): MessageReason {
    const [action, delaySeconds] = verdict;
    if (verdict === FAILED) return 'error';
    if (action === RateLimitAction.DISCONNECT) return 'disconnect';
    if (delaySeconds === Infinity) return 'cost';
    if (!this.#pauses) return 'rate';
    if (delaySeconds > this.#maxPauseSeconds) return 'pause';
    return delaySeconds > this.#secondsLeft() ? 'backlog' : 'rate';
  }

  #follows(reason: MessageReason): Did {
    if (reason === 'disconnect' || reason === 'error') return 'closed';
    if (!this.#pauses) return 'dropped';
    return reason === 'rate' ? 'paused' : 'closed';
  }

  /** In which what waits has to pass. */
  #secondsLeft(): number {
    if (this.#since === undefined) return this.#maxPauseSeconds;
    return Math.max(0, this.#since + this.#maxPauseSeconds - monotonicSeconds());
  }

  #expel(reason: MessageReason): void {
    this.end();
    this.#passage.expel(reason);
  }

  #wait(item: Held<Data, About>, seconds: number): void {
    if (this.#held?.index !== item.index) this.#open();
    const { turns, peer } = this.#rules[item.index] as OpenRule<Data, About>;
    this.#held = item;
    this.#hasLeft = false;
    this.#since ??= monotonicSeconds();
    this.#isFirst = turns.join(peer.key, this);
    if (!this.#isFirst) this.#goOn = inThisContext(() => this.#due());
    // Rounded up, and a timer may ring a fraction early: a second refusal would be a second violation.
    const milliseconds = Math.ceil((this.#isFirst ? seconds : this.#secondsLeft()) * 1000) + 1;
    this.#timer = setTimeout(() => this.#due(), milliseconds);
    this.#passage.shut();
  }

  #due(): void {
    this.#stopTimer();
    // Whoever is after it must not wait for a user that has paused this one.
    if (this.#passage.isPaused) this.#stepAside();
    else if (this.#isFirst) this.#retry();
    else this.#tooLate();
  }

  #stepAside(): void {
    this.#leave();
    this.#hasLeft = true;
  }

  #retry(): void {
    const { data, about, index } = this.#held as Held<Data, About>;
    if (this.#ask(data, about, index, this.#isFirst)) this.#letPass(data, about);
  }

  #letPass(data: Data, about: About): void {
    this.#open();
    this.#passage.passed(data, about);
  }

  #tooLate(): void {
    const held = this.#held as Held<Data, About>;
    if (this.#passage.isExempt(held.about)) {
      this.#letPass(held.data, held.about);
      return;
    }
    this.#tell(held, BEHIND, 'backlog', 'closed');
    if (!this.#hasEnded) this.#expel('backlog');
  }

  /** Forgets what waits. */
  #open(): void {
    this.#leave();
    this.#held = undefined;
    this.#hasLeft = false;
  }

  #leave(): void {
    this.#stopTimer();
    this.#isFirst = false;
    this.#goOn = doNothing;
    if (this.#held === undefined) return;
    const { turns, peer } = this.#rules[this.#held.index] as OpenRule<Data, About>;
    turns.leave(peer.key, this);
  }

  #stopTimer(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}
