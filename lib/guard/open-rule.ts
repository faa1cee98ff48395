// The interface of the limits that a connection has opened: each rule of the list `messages`, and the RuleLimiter with all
// its rules, is one OpenRule to the gate.

import type { MaybePromise } from '../common/maybe-promise.js';
import type { Classification } from '../rules/types.js';
import type { Bucket } from './bucket-queue.js';
import type { Answer } from './verdicts.js';

/** A limit on messages that one connection has opened. `Meta` is what is known of a message besides its data. */
export interface OpenRule<Data, Meta> {
  /** The key in a verdict if the check throws. */
  readonly key: string;
  /**
   * Checks a message. Undefined if it is allowed, or if the limit does not apply. `mustQueue`: if other connections wait
   * for a bucket of the message, it must wait behind them, and the limiter is not checked. An allowed message allocates
   * nothing here. A promise if the limiter answers later; it rejects with what the limiter throws.
   * @throws what a cost or the limiter throws
   */
  check(
    data: Data,
    meta: Meta,
    message: Classification | undefined,
    mustQueue: boolean,
  ): MaybePromise<RuleAnswer | undefined>;
  /**
   * The seconds until `check` would not delay the message, after the limiter has changed; 0 if it must be checked to know.
   * Counts and changes nothing. @throws what a cost or the limiter throws
   */
  delayOf(data: Data, meta: Meta, message: Classification | undefined): number;
  /** Removes from the limiter what only this connection uses. */
  close(): void;
}

/** A refusal, or a warning with which a message is allowed. */
export interface RuleAnswer {
  readonly answer: Answer;
  /** Whether a key is on a deny list. */
  readonly isDenied: boolean;
  /** The key that was refused. */
  readonly key: string;
  /** The bucket that the message can wait for. */
  readonly bucket: Bucket;
}
