// One guarded connection, of whatever kind: the gate before its listeners, the hold on its stream, and
// what happens when it has to go. The kinds say how to deliver, to close and to cut.

import { attempt, surface } from '../common/callbacks.js';
import { type CheckResult, RateLimitAction } from '../common/types.js';
import { type Did, Gate, type GateOptions, type MessageReason, type Passage } from './gate.js';
import { Hold, type Pausable } from './hold.js';
import type { OpenRule } from './rules.js';
import { type Decision, PASSED, said } from './verdicts.js';
import type { Belonging } from './visitor.js';

export interface GuardedOptions extends GateOptions {
  readonly graceMilliseconds: number;
  /** Whether anybody wants to hear of what passes. */
  readonly onVerdict: unknown;
}

/** Reasons that are no offence: whoever could not wait so long has done no wrong, nor whom a cost failed. */
const INNOCENT: readonly MessageReason[] = ['pause', 'backlog', 'error'];
const NO_LIMITER: CheckResult = [RateLimitAction.DISCONNECT, 0];

export abstract class GuardedConnection<Data, About> implements Passage<Data, About> {
  protected readonly belonging: Belonging;
  protected readonly gate: Gate<Data, About>;
  protected readonly hold: Hold;
  readonly #rules: readonly OpenRule<Data, About>[];
  readonly #options: GuardedOptions;
  #state: 'guarded' | 'expelled' | 'released' = 'guarded';
  #cut: NodeJS.Timeout | undefined;

  protected constructor(
    stream: Pausable,
    rules: readonly OpenRule<Data, About>[],
    options: GuardedOptions,
    belonging: Belonging,
  ) {
    this.belonging = belonging;
    this.#rules = rules;
    this.#options = options;
    this.gate = new Gate(rules, options, this);
    this.hold = new Hold(stream, () => this.#resumed());
  }

  abstract isExempt(about: About): boolean;
  /** Gives the listeners what may pass. */
  protected abstract deliver(data: Data, about: About): void;
  /** Tells of a decision. @throws what `onVerdict` throws. */
  protected abstract tell(data: Data, about: About, key: string, decision: Decision): void;
  /** Offers what has come meanwhile, and releases the stream when nothing is left. */
  protected abstract proceed(): void;
  /** Forgets what has not been offered yet. */
  protected abstract forget(): void;
  /** Gives its user what has not been offered yet. */
  protected abstract giveBack(): void;
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

  get isPaused(): boolean {
    return this.hold.isPaused;
  }

  shut(): void {
    this.hold.hold();
  }

  passed(data: Data, about: About): void {
    if (!this.isExempt(about)) this.pass(data, about);
    if (this.isGuarded && !this.gate.isShut) this.proceed();
  }

  refused(
    data: Data,
    about: About,
    key: string,
    verdict: CheckResult,
    reason: MessageReason,
    did: Did,
  ): void {
    if (this.#options.onVerdict === undefined) return;
    this.#tell(data, about, key, { did, reason, ...said(verdict) });
  }

  failed(error: unknown): void {
    this.belonging.failed(error);
  }

  /** Closes for a limit, or with words of the user's; false where it is closing already. */
  expel(reason: MessageReason, words?: string): boolean {
    if (!this.isGuarded) return false;
    this.#stop();
    if (!INNOCENT.includes(reason)) this.belonging.offended();
    this.#cut = setTimeout(() => this.cut(), this.#options.graceMilliseconds).unref();
    this.closeFor(reason, words);
    // Or the peer's answer would not be read.
    this.hold.release();
    return true;
  }

  /** Closes for what no limiter was asked about. */
  protected refuse(data: Data, about: About, reason: MessageReason): void {
    this.refused(data, about, this.belonging.key, NO_LIMITER, reason, 'closed');
    this.expel(reason);
  }

  /** Guards it no more; what waits is passed on. */
  release(): void {
    if (!this.isGuarded) return;
    this.#state = 'released';
    const held = this.gate.end();
    this.detach();
    this.#leave();
    if (held !== undefined && !this.isExempt(held.about)) this.give(held.data, held.about);
    this.giveBack();
    this.hold.end();
  }

  /** The connection is closed, by whomever. */
  protected closed(): void {
    if (this.isReleased) return;
    clearTimeout(this.#cut);
    this.#stop();
    this.#leave();
  }

  /** For whoever may. */
  protected pass(data: Data, about: About): void {
    if (this.#options.onVerdict !== undefined) {
      this.#tell(data, about, this.belonging.key, PASSED);
      // Whoever is told may have expelled it.
      if (this.#state === 'expelled') return;
    }
    this.give(data, about);
  }

  /** A listener that throws must not stop a stream in the middle of a chunk: it might never go on. */
  protected give(data: Data, about: About): void {
    try {
      this.deliver(data, about);
    } catch (error) {
      surface(error);
    }
  }

  #tell(data: Data, about: About, key: string, decision: Decision): void {
    attempt(() => this.tell(data, about, key, decision), this.belonging.failed);
  }

  #resumed(): void {
    this.gate.resumed();
    if (this.isGuarded && !this.gate.isShut) this.proceed();
  }

  #stop(): void {
    this.#state = 'expelled';
    this.gate.end();
    this.forget();
  }

  #leave(): void {
    for (const rule of this.#rules) rule.close();
    this.belonging.left();
  }
}
