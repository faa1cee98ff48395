// Offenders: the peers with violations or a ban, in the order they offended. Twin of
// native/offenders.h. Knows no limiter; when a ban is over is for its user to say.

import type { Violator } from '../../types.js';
import { TOP_VIOLATORS } from '../engine.js';
import { elapsed, NEVER } from './arithmetic.js';
import { LOSS_OF_BANNED, type Loss, lossOfPunished, lossOfUnpunished } from './eviction.js';
import { store, Times } from './table.js';

export class Offenders {
  /** When each ban began. */
  readonly bans = new Times();
  /** Violations of each offender, at least 1, in the order of their first. */
  readonly #violations = new Map<string, number>();
  #total = 0;

  get totalViolations(): number {
    return this.#total;
  }

  violations(key: string): number {
    return this.#violations.get(key) ?? 0;
  }

  /** Counts one more, and returns how many it makes. */
  addViolation(key: string): number {
    const violations = this.violations(key) + 1;
    store(this.#violations, key, violations);
    this.#total += 1;
    return violations;
  }

  /** When the peer's ban began, over or not; NEVER without one. */
  bannedAt(key: string): number {
    const place = this.bans.find(key);
    return place === undefined ? NEVER : this.bans.at(place);
  }

  /**
   * What is lost with the offences of a peer who without them would be `seconds` from a fresh one,
   * and has been idle for so long. A ban that is over protects nobody.
   */
  lossOf(key: string, seconds: number, idle: number, now: number, banDuration: number): Loss {
    const violations = this.violations(key);
    const bannedAt = this.bannedAt(key);
    if (violations === 0 && bannedAt === NEVER) return lossOfUnpunished(seconds);
    if (elapsed(now, bannedAt) < banDuration) return LOSS_OF_BANNED;
    return lossOfPunished(violations, idle);
  }

  /** For a peer without a ban. */
  beginBan(key: string, now: number): void {
    this.bans.insert(key, now);
  }

  /** Lifts a ban; violations stay. */
  liftBan(key: string): void {
    this.bans.delete(key);
  }

  /** Forgets violations and ban. */
  forgive(key: string): void {
    this.#total -= this.violations(key);
    this.#violations.delete(key);
    this.bans.delete(key);
  }

  clear(): void {
    this.#violations.clear();
    this.bans.clear();
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
      top.splice(place === -1 ? top.length : place, 0, [key, violations]);
      if (top.length > TOP_VIOLATORS) top.pop();
    }
    return top;
  }

  /** Keys of bans that are not over, in the order they began. */
  bannedKeys(now: number, banDuration: number): string[] {
    const banned: [key: string, began: number][] = [];
    for (const [key, place] of this.bans.entries()) {
      const began = this.bans.at(place);
      if (elapsed(now, began) < banDuration) banned.push([key, began]);
    }
    banned.sort(([, a], [, b]) => a - b);
    return banned.map(([key]) => key);
  }
}
