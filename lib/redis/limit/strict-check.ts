// A check in mode `strict`: one call of the script `strict`, and the verdict that its reply means.

import { ALLOWED, DISCONNECTED } from '../../common/check-results.js';
import { type CheckResult, RateLimitAction } from '../../common/types.js';
import { delaySeconds } from '../../tables/arithmetic.js';
import type { Limit } from '../store/limit.js';
import { invalidReplyError } from '../store/replies.js';
import { ScriptCall } from '../store/script-call.js';
import type { LimitStore } from './limit-store.js';

/** Receives a verdict, and the tokens that are left; null if the failure policy has decided. */
type Receiver = (result: CheckResult, tokens: number | null) => void;

/** A call that resolves with a verdict, the store's or that of the failure policy, and counts it. */
export class StrictCheck extends ScriptCall {
  readonly #store: LimitStore;
  readonly #limit: Limit;
  readonly #key: string;
  readonly #cost: number;
  readonly #verdicts: Record<RateLimitAction, number>;
  readonly #resolve: Receiver;

  constructor(
    { store, limit }: { store: LimitStore; limit: Limit },
    key: string,
    cost: number,
    verdicts: Record<RateLimitAction, number>,
    resolve: Receiver,
  ) {
    super('strict', [store.keyOf(key)], [String(cost)]);
    this.#store = store;
    this.#limit = limit;
    this.#key = key;
    this.#cost = cost;
    this.#verdicts = verdicts;
    this.#resolve = resolve;
  }

  override answered(reply: unknown): void {
    // A client may map strings to buffers.
    const text = String(reply);
    const tokens = text.length > 1 ? Number(text.slice(1)) : Number.NaN;
    const result = Number.isNaN(tokens) ? undefined : this.#verdictOf(text.charAt(0), tokens);
    if (result === undefined) this.failed(invalidReplyError());
    else this.#decide(result, tokens);
  }

  override failed(error: Error): void {
    this.#decide(this.#store.fallbackVerdict(this.#key, this.#cost, error), null);
  }

  #verdictOf(letter: string, tokens: number): CheckResult | undefined {
    if (letter === 'a') return ALLOWED;
    if (letter === 'd') return DISCONNECTED;
    if (letter !== 'w') return undefined;
    const { rateLimit, burstLimit } = this.#limit;
    return [RateLimitAction.DELAY, delaySeconds(tokens, this.#cost, rateLimit, burstLimit)];
  }

  #decide(result: CheckResult, tokens: number | null): void {
    this.#verdicts[result[0]] += 1;
    this.#resolve(result, tokens);
  }
}
