// Decides whether a message passes its rules, and if not, why and what has to be done. It calls nothing but costs and
// limiters: GuardedConnection does what the gate decides.

import { monotonicSeconds } from '../common/clock.js';
import { isPromise, type MaybePromise } from '../common/maybe-promise.js';
import { RateLimitAction } from '../common/types.js';
import type { Classification } from '../rules/types.js';
import type { Bucket } from './bucket-queue.js';
import type { OpenRule, RuleAnswer } from './open-rule.js';
import {
  ALLOWED,
  type Decision,
  type MessageOutcome,
  type MessageReason,
  UNKNOWN_DELAY,
} from './verdicts.js';

export type OnDelay = 'drop' | 'pause' | 'close';

export interface MessageGateOptions {
  /** What happens to a message that is delayed. */
  readonly onDelay: OnDelay;
  readonly maxPauseSeconds: number;
}

/** Where a check begins. */
export interface Progress {
  /** The index of a rule. The rules before it have allowed the message and taken its cost. */
  readonly index: number;
  /** The warning with which they allowed it, if any. */
  readonly warning: string | null;
  /** Whether the connection is the first in the queue for the bucket that refused the message. */
  readonly isFirst: boolean;
}

export const START: Progress = { index: 0, warning: null, isFirst: false };

/** A message passes with a warning, a rule has refused it, or a limiter has not answered yet. */
export type MessageDecision = PassedWithWarning | MessageRefusal | PendingCheck;

/** A limiter answers later. The rules behind it are checked then. */
export interface PendingCheck {
  readonly outcome: 'pending';
  /** Never rejects. The function checks the other rules, and returns what `check` returns. */
  readonly answer: PromiseLike<() => MessageDecision | undefined>;
}

interface PassedWithWarning {
  readonly decision: Decision;
  readonly outcome: 'passed';
}

export interface MessageRefusal {
  /** The index of the rule. The rules before it have allowed the message and taken its cost. */
  readonly index: number;
  readonly decision: Decision;
  readonly reason: MessageReason;
  readonly outcome: MessageOutcome;
  /** The key that was refused. */
  readonly key: string;
  /** Undefined if the rule threw. */
  readonly bucket: Bucket | undefined;
  /** What the cost or the limiter threw, if the reason is 'error'. */
  readonly error?: unknown;
}

export class MessageGate<Data, Meta> {
  readonly #rules: readonly OpenRule<Data, Meta>[];
  readonly #maxPauseSeconds: number;
  readonly #withoutPause: MessageOutcome;
  #canPause: boolean;
  /** Monotonic seconds at which the pause began; undefined if there is none. */
  #pauseStart: number | undefined;

  constructor(rules: readonly OpenRule<Data, Meta>[], options: MessageGateOptions) {
    this.#rules = rules;
    this.#withoutPause = options.onDelay === 'close' ? 'closed' : 'dropped';
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

  /** The first refusal; undefined if all rules allow the message without a warning, which allocates nothing here. */
  check(
    data: Data,
    meta: Meta,
    message: Classification | undefined,
    from: Progress,
  ): MessageDecision | undefined {
    const rules = this.#rules;
    let { warning } = from;
    for (let { index } = from; index < rules.length; index += 1) {
      const rule = rules[index] as OpenRule<Data, Meta>;
      const mustQueue = this.#canPause && !(from.isFirst && index === from.index);
      let found: MaybePromise<RuleAnswer | undefined>;
      try {
        found = rule.check(data, meta, message, mustQueue);
      } catch (error) {
        return failure(index, rule.key, warning, error);
      }
      if (found === undefined) continue;
      if (isPromise(found)) return this.#pending(found, data, meta, message, { index, warning });
      if (found.answer.action === RateLimitAction.ALLOW) warning = found.answer.warning;
      else return this.#refusal(index, found, warning);
    }
    if (warning === null) return undefined;
    const decision: Decision = { ...ALLOWED, did: 'passed', reason: undefined, warning };
    return { decision, outcome: 'passed' };
  }

  #pending(
    found: PromiseLike<RuleAnswer | undefined>,
    data: Data,
    meta: Meta,
    message: Classification | undefined,
    { index, warning }: Omit<Progress, 'isFirst'>,
  ): PendingCheck {
    const { key } = this.#rules[index] as OpenRule<Data, Meta>;
    const decide = (found: RuleAnswer | undefined) => {
      const isAllowed = found === undefined || found.answer.action === RateLimitAction.ALLOW;
      if (!isAllowed) return this.#refusal(index, found, warning);
      const next = found === undefined ? warning : found.answer.warning;
      return this.check(data, meta, message, { index: index + 1, warning: next, isFirst: false });
    };
    const answer = found.then(
      (found) => () => decide(found),
      (error) => () => failure(index, key, warning, error),
    );
    return { outcome: 'pending', answer };
  }

  #refusal(index: number, found: RuleAnswer, warning: string | null): MessageRefusal {
    const { answer, key, bucket } = found;
    const reason = this.#reasonFor(found);
    const outcome = this.#outcomeFor(reason);
    return {
      index,
      decision: { ...answer, did: outcome, reason, warning },
      reason,
      outcome,
      key,
      bucket,
    };
  }

  #reasonFor({ answer: { action, delaySeconds }, isDenied }: RuleAnswer): MessageReason {
    if (isDenied) return 'denied';
    if (action === RateLimitAction.DISCONNECT) return 'disconnect';
    if (delaySeconds === Infinity) return 'cost';
    if (!this.#canPause) return 'rate';
    if (delaySeconds > this.#maxPauseSeconds) return 'pause';
    return delaySeconds > this.remainingSeconds ? 'backlog' : 'rate';
  }

  #outcomeFor(reason: MessageReason): MessageOutcome {
    if (reason === 'disconnect' || reason === 'denied') return 'closed';
    if (!this.#canPause) return this.#withoutPause;
    return reason === 'rate' ? 'paused' : 'closed';
  }
}

/** The refusal of a rule that threw. */
function failure(
  index: number,
  key: string,
  warning: string | null,
  error: unknown,
): MessageRefusal {
  const decision: Decision = { ...UNKNOWN_DELAY, did: 'closed', reason: 'error', warning };
  return { index, decision, reason: 'error', outcome: 'closed', key, bucket: undefined, error };
}
