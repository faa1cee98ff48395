// One guarded connection, of whatever kind: the gate before its listeners, the hold on its stream, and
// what happens when it has to go. The kinds say how to deliver, to close and to cut.

import { type CheckResult, RateLimitAction } from '../types.js';
import { type Did, Gate, type GateOptions, type MessageReason } from './gate.js';
import { Hold, type Pausable } from './hold.js';
import type { OpenRule } from './rules.js';
import { safely, surface } from './surface.js';
import { type Decision, PASSED, said } from './verdicts.js';
import type { Belonging } from './visitor.js';

export interface GuardedOptions extends GateOptions {
  readonly graceMilliseconds: number;
  /** Whether anybody wants to hear of what passes. */
  readonly onVerdict: unknown;
}

const NO_LIMITER: CheckResult = [RateLimitAction.DISCONNECT, 0];

export abstract class GuardedConnection<Item> {
  protected readonly belonging: Belonging;
  protected readonly gate: Gate<Item>;
  protected readonly hold: Hold;
  readonly #rules: readonly OpenRule<Item>[];
  readonly #options: GuardedOptions;
  #state: 'guarded' | 'expelled' | 'released' = 'guarded';
  #cut: NodeJS.Timeout | undefined;

  protected constructor(
    stream: Pausable,
    rules: readonly OpenRule<Item>[],
    options: GuardedOptions,
    belonging: Belonging,
  ) {
    this.belonging = belonging;
    this.#rules = rules;
    this.#options = options;
    this.gate = new Gate(rules, options, {
      pass: (item) => this.#pass(item),
      shut: () => this.hold.hold(),
      opened: () => this.proceed(),
      expel: (reason) => this.expel(reason),
      refused: (...refusal) => this.#refused(...refusal),
    });
    this.hold = new Hold(stream);
  }

  /** Gives the listeners what may pass. */
  protected abstract deliver(item: Item): void;
  /** Tells of a decision. */
  protected abstract tell(item: Item, key: string, decision: Decision): void;
  /** Offers what has come meanwhile, and releases the stream when nothing is left. */
  protected abstract proceed(): void;
  /** What has not been offered yet; it is forgotten. */
  protected abstract rest(): Item[];
  /** Begins to close, and tells the peer why. */
  protected abstract closeFor(reason: MessageReason, words: string | undefined): void;
  /** Ends the connection at once. */
  protected abstract cut(): void;
  /** Takes itself away from before the listeners. */
  protected abstract detach(): void;

  get isGuarded(): boolean {
    return this.#state === 'guarded';
  }

  get isReleased(): boolean {
    return this.#state === 'released';
  }

  /** Closes for a limit, or with words of the user's; false where it is closing already. */
  expel(reason: MessageReason, words?: string): boolean {
    if (!this.isGuarded) return false;
    this.#stop('expelled');
    // Whoever could not wait so long has done no wrong.
    if (reason !== 'pause') this.belonging.offended();
    this.#cut = setTimeout(() => this.cut(), this.#options.graceMilliseconds).unref();
    this.closeFor(reason, words);
    // Or the peer's answer would not be read.
    this.hold.release();
    return true;
  }

  /** Closes for what no limiter was asked about. */
  protected refuse(item: Item, reason: MessageReason): void {
    this.#refused(item, this.belonging.key, NO_LIMITER, reason, 'closed');
    this.expel(reason);
  }

  /** Guards it no more; what waits is passed on. */
  release(): void {
    if (!this.isGuarded) return;
    const held = this.gate.end();
    const waiting = this.rest();
    this.#stop('released');
    this.detach();
    this.#leave();
    if (held !== undefined) waiting.unshift(held);
    for (const item of waiting) safely(() => this.deliver(item));
    this.hold.end();
  }

  /** The connection is closed, by whomever. */
  protected closed(): void {
    if (this.isReleased) return;
    clearTimeout(this.#cut);
    this.#stop('expelled');
    this.#leave();
  }

  /** A listener that throws must not stop a stream in the middle of a chunk: it might never go on. */
  #pass(item: Item): void {
    if (this.#options.onVerdict !== undefined) this.tell(item, this.belonging.key, PASSED);
    // Whoever is told may have expelled it.
    if (this.#state === 'expelled') return;
    try {
      this.deliver(item);
    } catch (error) {
      surface(error);
    }
  }

  #refused(item: Item, key: string, verdict: CheckResult, reason: MessageReason, did: Did): void {
    if (this.#options.onVerdict === undefined) return;
    this.tell(item, key, { did, reason, ...said(verdict) });
  }

  #stop(state: 'expelled' | 'released'): void {
    this.#state = state;
    this.gate.end();
    this.rest();
  }

  #leave(): void {
    for (const rule of this.#rules) rule.close();
    this.belonging.left();
  }
}
