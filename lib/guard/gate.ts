// The gate that the messages of one connection pass, one by one, in their order. Guarantees that none
// passes which a limit refuses: it is dropped, or waits at the gate, which is shut meanwhile, until the
// limit has allowed it. Knows no sockets: whoever has one pauses it.

import { type CheckResult, RateLimitAction } from '../types.js';
import type { OpenRule } from './rules.js';
import { surface } from './surface.js';

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
  /** Too many messages wait already: they came in one piece. */
  | 'backlog'
  /** A line is longer than lines may be. */
  | 'length'
  /** Its user called `expel`. */
  | 'expelled'
  /** A cost of the user's own could not be found; what it threw has surfaced. */
  | 'error';

export interface GateOptions {
  readonly onDelay: 'drop' | 'pause';
  readonly maxPauseSeconds: number;
}

/** What becomes of messages. */
export interface Passage<Item> {
  /** The message may be processed. */
  pass(item: Item): void;
  /** The gate is shut: nothing may be offered until `opened`. */
  shut(): void;
  opened(): void;
  /** The connection has to be closed; the gate takes nothing any more. */
  expel(reason: MessageReason): unknown;
  /** Told of every refusal, before anything follows from it. */
  refused(item: Item, key: string, verdict: CheckResult, reason: MessageReason, did: Did): void;
}

export type Did = 'dropped' | 'paused' | 'closed';

const FAILED: CheckResult = Object.freeze([RateLimitAction.DELAY, 0] as const);

export class Gate<Item> {
  readonly #rules: readonly OpenRule<Item>[];
  readonly #options: GateOptions;
  readonly #passage: Passage<Item>;
  #timer: NodeJS.Timeout | undefined;
  #held: Item | undefined;
  #hasEnded = false;

  constructor(rules: readonly OpenRule<Item>[], options: GateOptions, passage: Passage<Item>) {
    this.#rules = rules;
    this.#options = options;
    this.#passage = passage;
  }

  /** Whether a message waits here. */
  get isShut(): boolean {
    return this.#timer !== undefined;
  }

  /** Takes a message, unless the gate is shut. */
  offer(item: Item): void {
    if (!this.#hasEnded) this.#judge(item, 0);
  }

  /** Nothing passes any more. Returns what waited here, and forgets it. */
  end(): Item | undefined {
    this.#hasEnded = true;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const held = this.#held;
    this.#held = undefined;
    return held;
  }

  /** `from`: the rules before it have allowed the message already, and taken its cost. */
  #judge(item: Item, from: number): void {
    const rules = this.#rules;
    for (let index = from; index < rules.length; index += 1) {
      const rule = rules[index] as OpenRule<Item>;
      const verdict = this.#ask(rule, item);
      if (verdict === undefined || verdict[0] === RateLimitAction.ALLOW) continue;
      this.#refuse(item, index, verdict);
      return;
    }
    this.#passage.pass(item);
  }

  #ask(rule: OpenRule<Item>, item: Item): CheckResult | undefined {
    try {
      const cost = rule.cost(item);
      return cost === undefined ? undefined : rule.peer.check(cost);
    } catch (error) {
      surface(error);
      return FAILED;
    }
  }

  #refuse(item: Item, index: number, verdict: CheckResult): void {
    const reason = this.#reason(verdict);
    const did = this.#follows(reason);
    const { key } = (this.#rules[index] as OpenRule<Item>).peer;
    this.#passage.refused(item, key, verdict, reason, did);
    // Whoever is told may have closed the connection.
    if (this.#hasEnded) return;
    if (did === 'paused') this.#wait(item, index, verdict[1]);
    else if (did === 'closed') this.#expel(reason);
  }

  #reason(verdict: CheckResult): MessageReason {
    const [action, delaySeconds] = verdict;
    if (verdict === FAILED) return 'error';
    if (action === RateLimitAction.DISCONNECT) return 'disconnect';
    if (delaySeconds === Infinity) return 'cost';
    const { onDelay, maxPauseSeconds } = this.#options;
    return onDelay === 'pause' && delaySeconds > maxPauseSeconds ? 'pause' : 'rate';
  }

  #follows(reason: MessageReason): Did {
    if (reason === 'disconnect') return 'closed';
    if (reason === 'error' || this.#options.onDelay === 'drop') return 'dropped';
    return reason === 'rate' ? 'paused' : 'closed';
  }

  #expel(reason: MessageReason): void {
    this.end();
    this.#passage.expel(reason);
  }

  #wait(item: Item, index: number, seconds: number): void {
    // Rounded up, and a timer may ring a fraction early: a second refusal would be a second violation.
    const milliseconds = Math.ceil(seconds * 1000) + 1;
    this.#held = item;
    this.#timer = setTimeout(() => this.#retry(item, index), milliseconds);
    this.#passage.shut();
  }

  #retry(item: Item, index: number): void {
    this.#timer = undefined;
    this.#held = undefined;
    this.#judge(item, index);
    if (!this.isShut && !this.#hasEnded) this.#passage.opened();
  }
}
