// Decides whether a message passes its rules, and if not, why and what has to be done. It calls nothing but costs and
// limiters: GuardedConnection does what the gate decides.

import { monotonicSeconds } from '../common/clock.js';
import { type CheckResult, RateLimitAction } from '../common/types.js';
import type { OpenRule } from './rules.js';
import type { MessageOutcome, MessageReason } from './verdicts.js';

export interface MessageGateOptions {
  readonly onDelay: 'drop' | 'pause';
  readonly maxPauseSeconds: number;
}

/** A rule has refused a message. */
export interface MessageRefusal {
  /** The index of the rule. The rules before it have allowed the message and taken its cost. */
  readonly index: number;
  readonly verdict: CheckResult;
  readonly reason: MessageReason;
  readonly outcome: MessageOutcome;
  /** What the cost or the limiter threw, if the reason is 'error'. */
  readonly error?: unknown;
}

/** The delay is unknown: other connections wait for the bucket, or the limiter did not answer. */
export const UNKNOWN_DELAY: CheckResult = Object.freeze([RateLimitAction.DELAY, 0] as const);

export class MessageGate<Data, Meta> {
  readonly #rules: readonly OpenRule<Data, Meta>[];
  readonly #maxPauseSeconds: number;
  #canPause: boolean;
  /** Monotonic seconds at which the pause began; undefined if there is none. */
  #pauseStart: number | undefined;

  constructor(rules: readonly OpenRule<Data, Meta>[], options: MessageGateOptions) {
    this.#rules = rules;
    this.#canPause = options.onDelay === 'pause';
    this.#maxPauseSeconds = options.maxPauseSeconds;
  }

  /** Whether a refused message may wait. */
  get canPause(): boolean {
    return this.#canPause;
  }

  /** Seconds until the pause must end. */
  get remainingSeconds(): number {
    if (this.#pauseStart === undefined) return this.#maxPauseSeconds;
    return Math.max(0, this.#pauseStart + this.#maxPauseSeconds - monotonicSeconds());
  }

  /** Starts the clock of a pause, unless it runs already. */
  beginPause(): void {
    this.#pauseStart ??= monotonicSeconds();
  }

  endPause(): void {
    this.#pauseStart = undefined;
  }

  /** From here on, refused messages are dropped. */
  disablePauses(): void {
    this.#canPause = false;
  }

  /**
   * The first refusal by the rules from the index `from` on; undefined if all of them allow the message. `isFirst`: the
   * connection is the first in the queue for the bucket of the rule `from`. An allowed message allocates nothing here.
   */
  check(data: Data, meta: Meta, from: number, isFirst: boolean): MessageRefusal | undefined {
    const rules = this.#rules;
    for (let index = from; index < rules.length; index += 1) {
      let verdict: CheckResult | undefined;
      try {
        const rule = rules[index] as OpenRule<Data, Meta>;
        verdict = this.#verdict(rule, data, meta, isFirst && index === from);
      } catch (error) {
        return { index, verdict: UNKNOWN_DELAY, reason: 'error', outcome: 'closed', error };
      }
      if (verdict === undefined || verdict[0] === RateLimitAction.ALLOW) continue;
      const reason = this.#reasonFor(verdict);
      return { index, verdict, reason, outcome: this.#outcomeFor(reason) };
    }
    return undefined;
  }

  #verdict(
    { cost, peer, queue }: OpenRule<Data, Meta>,
    data: Data,
    meta: Meta,
    isFirst: boolean,
  ): CheckResult | undefined {
    const tokens = cost(data, meta);
    if (tokens === undefined) return undefined;
    const mustWait =
      !queue.isEmpty && this.#canPause && !isFirst && tokens > 0 && queue.hasWaiters(peer.key);
    return mustWait ? UNKNOWN_DELAY : peer.check(tokens);
  }

  #reasonFor([action, delaySeconds]: CheckResult): MessageReason {
    if (action === RateLimitAction.DISCONNECT) return 'disconnect';
    if (delaySeconds === Infinity) return 'cost';
    if (!this.#canPause) return 'rate';
    if (delaySeconds > this.#maxPauseSeconds) return 'pause';
    return delaySeconds > this.remainingSeconds ? 'backlog' : 'rate';
  }

  #outcomeFor(reason: MessageReason): MessageOutcome {
    if (reason === 'disconnect') return 'closed';
    if (!this.#canPause) return 'dropped';
    return reason === 'rate' ? 'paused' : 'closed';
  }
}
