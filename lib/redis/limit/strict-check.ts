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

/** What checks of one limiter have in common. */
export interface CheckOwner {
  readonly store: LimitStore;
  readonly limit: Limit;
  /** Counts the verdict of a peer. */
  count(key: string, result: CheckResult): void;
}

/** A call that ends with a verdict, the store's or that of the failure policy. */
export class StrictCheck extends ScriptCall {
  protected readonly owner: CheckOwner;
  protected readonly key: string;
  readonly #cost: number;
  readonly #receive: Receiver;

  constructor(
    owner: CheckOwner,
    key: string,
    cost: number,
    receive: Receiver,
    name: 'strict' | 'first' = 'strict',
  ) {
    super(name, [owner.store.keyOf(key)], cost === 1 ? [''] : ['', String(cost)]);
    this.owner = owner;
    this.key = key;
    this.#cost = cost;
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
    else if (isRefused) this.decided(this.#refusal(letter, tokens), tokens);
    else this.allowed(tokens);
  }

  override failed(error: Error): void {
    this.decided(this.owner.store.fallbackVerdict(this.key, this.#cost, error), null);
  }

  /** The store has allowed the check. */
  protected allowed(tokens: number): void {
    this.decided(ALLOWED, tokens);
  }

  protected decided(result: CheckResult, tokens: number | null): void {
    this.owner.count(this.key, result);
    this.#receive(result, tokens);
  }

  #refusal(letter: string, tokens: number): CheckResult {
    if (letter === 'd') return DISCONNECTED;
    const { rateLimit, burstLimit } = this.owner.limit;
    return [RateLimitAction.DELAY, delaySeconds(tokens, this.#cost, rateLimit, burstLimit)];
  }
}

/** What first checks at one node have in common. */
export interface FirstCheckOwner extends CheckOwner {
  /** The time by which costs are held. */
  now(): number;
  /** Called before the verdict of each first check. */
  firstCheckEnds(): void;
}

/** The first check of a peer at this node in mode `leased`. The store holds its cost as a short lease. */
export class FirstCheck extends StrictCheck {
  declare protected readonly owner: FirstCheckOwner;
  readonly #heldUntil: number;

  /** `heldUntil`: until when the store holds the cost. Then it refills it, and the check must not be admitted. */
  constructor(
    owner: FirstCheckOwner,
    key: string,
    cost: number,
    receive: Receiver,
    heldUntil: number,
  ) {
    super(owner, key, cost, receive, 'first');
    this.#heldUntil = heldUntil;
  }

  protected override allowed(tokens: number): void {
    if (this.owner.now() < this.#heldUntil) super.allowed(tokens);
    else this.failed(new OverloadError());
  }

  protected override decided(result: CheckResult, tokens: number | null): void {
    this.owner.firstCheckEnds();
    super.decided(result, tokens);
  }
}
