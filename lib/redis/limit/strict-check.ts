// A check that the store decides: one call of the script `strict` or `first`, and the verdict that its reply means.

import { ALLOWED, DISCONNECTED } from '../../common/check-results.js';
import { type CheckResult, RateLimitAction } from '../../common/types.js';
import { delaySeconds } from '../../tables/arithmetic.js';
import type { Limit } from '../store/limit.js';
import { invalidReplyError } from '../store/replies.js';
import { OverloadError, ScriptCall } from '../store/script-call.js';
import type { LimitStore } from './limit-store.js';

/**
 * Receives a verdict, and the tokens that are left in the bucket: null if the failure policy has decided, undefined if a
 * lease has.
 */
export type Receiver = (result: CheckResult, tokens?: number | null) => void;

const NO_ARGS: readonly string[] = [];

/** A call that ends with a verdict, the store's or that of the failure policy. */
export class StrictCheck extends ScriptCall {
  protected readonly store: LimitStore;
  protected readonly key: string;
  protected readonly cost: number;
  readonly #limit: Limit;
  readonly #receive: Receiver;

  constructor(
    { store, limit }: { store: LimitStore; limit: Limit },
    key: string,
    cost: number,
    receive: Receiver,
    name: 'strict' | 'first' = 'strict',
  ) {
    super(name, [store.keyOf(key)], cost === 1 ? NO_ARGS : [String(cost)]);
    this.store = store;
    this.key = key;
    this.cost = cost;
    this.#limit = limit;
    this.#receive = receive;
  }

  override answered(reply: unknown): void {
    if (typeof reply === 'number') {
      this.allowed(reply);
      return;
    }
    // A client may map numbers to strings, and strings to buffers.
    const text = String(reply);
    const letter = text.charAt(0);
    const isRefused = letter === 'w' || letter === 'd';
    const tokens = Number((isRefused ? text.slice(1) : text) || Number.NaN);
    if (Number.isNaN(tokens)) this.failed(invalidReplyError());
    else if (isRefused) this.#receive(this.#refusal(letter, tokens), tokens);
    else this.allowed(tokens);
  }

  override failed(error: Error): void {
    this.#receive(this.store.fallbackVerdict(this.key, this.cost, error), null);
  }

  /** The store has allowed the check. */
  protected allowed(tokens: number): void {
    this.#receive(ALLOWED, tokens);
  }

  #refusal(letter: string, tokens: number): CheckResult {
    if (letter === 'd') return DISCONNECTED;
    const { rateLimit, burstLimit } = this.#limit;
    return [RateLimitAction.DELAY, delaySeconds(tokens, this.cost, rateLimit, burstLimit)];
  }
}

/** The first check of a peer at this node in mode `leased`. The store holds its cost as a short lease. */
export class FirstCheck extends StrictCheck {
  readonly #isHeld: () => boolean;

  /** `isHeld`: whether the store still holds the cost. Otherwise it refills it, and the check must not be admitted. */
  constructor(
    target: { store: LimitStore; limit: Limit },
    key: string,
    cost: number,
    receive: Receiver,
    isHeld: () => boolean,
  ) {
    super(target, key, cost, receive, 'first');
    this.#isHeld = isHeld;
  }

  protected override allowed(tokens: number): void {
    if (this.#isHeld()) super.allowed(tokens);
    else this.failed(new OverloadError());
  }
}
