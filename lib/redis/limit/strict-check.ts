// A check in mode `strict`: one call of the script `strict`, and the verdict that its reply means.

import { ALLOWED, DISCONNECTED } from '../../common/check-results.js';
import { type CheckResult, RateLimitAction } from '../../common/types.js';
import { invalidReplyError } from '../store/replies.js';
import { ScriptCall } from '../store/script-call.js';
import type { LimitStore } from './limit-store.js';

/** A call that resolves with a verdict, the store's or that of the failure policy, and counts it. */
export class StrictCheck extends ScriptCall {
  readonly #store: LimitStore;
  readonly #key: string;
  readonly #cost: number;
  readonly #verdicts: Record<RateLimitAction, number>;
  readonly #resolve: (result: CheckResult) => void;

  constructor(
    store: LimitStore,
    key: string,
    cost: number,
    verdicts: Record<RateLimitAction, number>,
    resolve: (result: CheckResult) => void,
  ) {
    super('strict', store.keyOf(key), [String(cost)]);
    this.#store = store;
    this.#key = key;
    this.#cost = cost;
    this.#verdicts = verdicts;
    this.#resolve = resolve;
  }

  override answered(reply: unknown): void {
    const verdict = readVerdict(reply);
    if (Number.isNaN(verdict[1])) this.failed(invalidReplyError());
    else this.#decide(verdict);
  }

  override failed(error: Error): void {
    this.#decide(this.#store.fallbackVerdict(this.#key, this.#cost, error));
  }

  #decide(result: CheckResult): void {
    this.#verdicts[result[0]] += 1;
    this.#resolve(result);
  }
}

/** Reads the script's reply: 1 for allow, 0 for disconnect, otherwise the seconds to wait. NaN if it is invalid. */
function readVerdict(reply: unknown): CheckResult {
  if (reply === 1) return ALLOWED;
  if (reply === 0) return DISCONNECTED;
  // A client may map numbers to strings, and strings to buffers.
  const text = String(reply);
  if (text === '1') return ALLOWED;
  if (text === '0') return DISCONNECTED;
  return [RateLimitAction.DELAY, text === 'inf' ? Infinity : Number(text)];
}
