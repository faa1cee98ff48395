// Offenders: the peers with violations or a ban, in the order they offended. Twin of
// native/offenders.h. Knows no limiter; when a ban is over is for its user to say. A key is what
// Keys.find returns, and `text` what it was given.

import { copyOf } from '../../text.js';
import type { Violator } from '../../types.js';
import { TOP_VIOLATORS } from '../engine.js';
import { elapsed, NEVER } from './arithmetic.js';
import { keep, MOST_UNITS } from './keys.js';
import { store } from './table.js';

export class Offenders {
  /** When each ban began, in that order. */
  readonly bans = new Map<string, number>();
  /** Violations of each offender, at least 1, in the order of their first. */
  readonly #violations = new Map<string, number>();
  /** The texts of those whose keys are aliases. */
  readonly #texts = new Map<string, string>();
  #total = 0;

  get totalViolations(): number {
    return this.#total;
  }

  violations(key: string): number {
    return this.#violations.get(key) ?? 0;
  }

  /** Counts one more, and returns how many it makes. */
  addViolation(key: string, text: string): number {
    const before = this.#violations.get(key);
    const violations = (before ?? 0) + 1;
    if (before === undefined) this.#remember(key, text);
    store(this.#violations, before === undefined ? keep(key) : key, violations);
    this.#total += 1;
    return violations;
  }

  /** When the peer's ban began, over or not; NEVER without one. */
  bannedAt(key: string): number {
    return this.bans.get(key) ?? NEVER;
  }

  beginBan(key: string, text: string, now: number): void {
    this.#remember(key, text);
    store(this.bans, keep(key), now);
  }

  /** Lifts a ban; violations stay. */
  liftBan(key: string): void {
    this.bans.delete(key);
    if (!this.#violations.has(key)) this.#texts.delete(key);
  }

  /** Forgets violations and ban. */
  forgive(key: string): void {
    this.#total -= this.violations(key);
    this.#violations.delete(key);
    this.bans.delete(key);
    this.#texts.delete(key);
  }

  clear(): void {
    this.#violations.clear();
    this.bans.clear();
    this.#texts.clear();
    this.#total = 0;
  }

  /** The worst, most violations first; ties by who offended first. */
  topViolators(): Violator[] {
    const top: Violator[] = [];
    for (const [key, violations] of this.#violations) {
      const last = top[TOP_VIOLATORS - 1];
      if (last !== undefined && violations <= last[1]) continue;
      // Behind its equals, which offended earlier.
      const place = top.findIndex((other) => other[1] < violations);
      top.splice(place === -1 ? top.length : place, 0, [this.#textOf(key), violations]);
      if (top.length > TOP_VIOLATORS) top.pop();
    }
    return top;
  }

  /** Keys of bans that are not over, in the order they began. */
  bannedKeys(now: number, banDuration: number): string[] {
    const keys: string[] = [];
    for (const [key, began] of this.bans) {
      if (elapsed(now, began) < banDuration) keys.push(this.#textOf(key));
    }
    return keys;
  }

  #remember(key: string, text: string): void {
    if (key.length <= MOST_UNITS || this.#texts.has(key)) return;
    store(this.#texts, key, copyOf(text));
  }

  #textOf(key: string): string {
    return this.#texts.get(key) ?? key;
  }
}
