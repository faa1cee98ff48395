// Offenders: the peers with violations or a ban, in the order they offended. Twin of
// native/offenders.h. Knows no limiter; when a ban is over is for its user to say.
//
// The text of keys is bounded. A key of MOST_SHORT code units is always kept, a longer one while all
// of these together stay within the room for them; else its peer is punished without a name. Which it
// is, is decided as it becomes an offender.

import type { SnapshotPeer, Violator } from '../../types.js';
import { TOP_VIOLATORS } from '../engine.js';
import { elapsed, NEVER } from './arithmetic.js';
import { LOSS_OF_BANNED, type Loss, lossOfPunished, lossOfUnpunished } from './eviction.js';
import { store, Times } from './table.js';

/** Code units of the longest key that is always kept. */
const MOST_SHORT = 128;
/** What long keys may take together, at two bytes a unit: at least, and for each peer. */
const LEAST_LONG_BYTES = 2 ** 20;
const LONG_BYTES_PER_PEER = 64;

export class Offenders {
  /** When each ban began. */
  readonly bans = new Times();
  /** Violations of each offender, at least 1, in the order of their first. */
  readonly #violations = new Map<string, number>();
  #total = 0;
  readonly #longBytesMost: number;
  #longBytes = 0;
  /** Offenders that have no name. */
  readonly #unnamed = new Set<string>();

  /** For a limiter of so many peers. */
  constructor(maxPeers: number) {
    this.#longBytesMost = Math.max(LEAST_LONG_BYTES, maxPeers * LONG_BYTES_PER_PEER);
  }

  get unnamed(): number {
    return this.#unnamed.size;
  }

  get totalViolations(): number {
    return this.#total;
  }

  violations(key: string): number {
    return this.#violations.get(key) ?? 0;
  }

  /** Counts one more, and returns how many it makes. */
  addViolation(key: string): number {
    const violations = this.violations(key) + 1;
    this.#setViolations(key, violations);
    return violations;
  }

  /**
   * Makes violations at least as many as those, and where `began` is an instant puts a ban of then in
   * the place of none or of an earlier one.
   */
  restore(key: string, violations: number, began: number): void {
    if (began > NEVER) this.#restoreBan(key, began);
    if (violations > this.violations(key)) this.#setViolations(key, violations);
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
    if (!this.#isOffender(key)) return lossOfUnpunished(seconds);
    if (elapsed(now, this.bannedAt(key)) < banDuration) return LOSS_OF_BANNED;
    return lossOfPunished(this.violations(key), idle);
  }

  /** For a peer without a ban. */
  beginBan(key: string, now: number): void {
    const isNew = !this.#isOffender(key);
    this.bans.insert(key, now);
    if (isNew) this.#name(key);
  }

  /** Lifts a ban; violations stay. */
  liftBan(key: string): void {
    if (this.bans.delete(key) && !this.#violations.has(key)) this.#unname(key);
  }

  /** Forgets violations and ban. */
  forgive(key: string): void {
    this.#total -= this.violations(key);
    const hadViolations = this.#violations.delete(key);
    const hadBan = this.bans.delete(key);
    if (hadViolations || hadBan) this.#unname(key);
  }

  clear(): void {
    this.#violations.clear();
    this.bans.clear();
    this.#unnamed.clear();
    this.#longBytes = 0;
    this.#total = 0;
  }

  /** The worst, most violations first; ties by who offended first. */
  topViolators(): Violator[] {
    const top: Violator[] = [];
    for (const [key, violations] of this.#violations) {
      const last = top[TOP_VIOLATORS - 1];
      if ((last !== undefined && violations <= last[1]) || !this.#isNamed(key)) continue;
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
      if (elapsed(now, began) < banDuration && this.#isNamed(key)) banned.push([key, began]);
    }
    banned.sort(([, a], [, b]) => a - b);
    return banned.map(([key]) => key);
  }

  /**
   * Those that are named, in the order of their first violations, and behind them those who have
   * none, in the order of their bans. Who has a ban that is over is left out. `idleSeconds` is asked
   * of each.
   */
  inOrder(now: number, banDuration: number, idleSeconds: (key: string) => number): SnapshotPeer[] {
    const peers: SnapshotPeer[] = [];
    const add = (key: string, violations: number) => {
      const began = this.bannedAt(key);
      const served = began === NEVER ? null : elapsed(now, began);
      if (!this.#isNamed(key) || (served !== null && !(served < banDuration))) return;
      const banSecondsLeft = served === null ? null : banDuration - served;
      const idle = idleSeconds(key);
      const known = idle === Infinity ? null : idle;
      peers.push({ key, violations, banSecondsLeft, idleSeconds: known });
    };
    for (const [key, violations] of this.#violations) add(key, violations);
    for (const key of this.bannedKeys(now, banDuration))
      if (!this.#violations.has(key)) add(key, 0);
    return peers;
  }

  #setViolations(key: string, violations: number): void {
    const before = this.violations(key);
    const isNew = before === 0 && !this.#isOffender(key);
    store(this.#violations, key, violations);
    if (isNew) this.#name(key);
    this.#total += violations - before;
  }

  /** The same ban, or one that began later. */
  #restoreBan(key: string, began: number): void {
    const place = this.bans.find(key);
    if (place === undefined) this.beginBan(key, began);
    else this.bans.set(place, Math.max(this.bans.at(place), began));
  }

  #isOffender(key: string): boolean {
    return this.#violations.has(key) || this.bans.find(key) !== undefined;
  }

  #isNamed(key: string): boolean {
    return this.#unnamed.size === 0 || !this.#unnamed.has(key);
  }

  /** Of who becomes an offender. */
  #name(key: string): void {
    const bytes = longBytes(key);
    if (bytes === 0) return;
    if (this.#longBytes + bytes <= this.#longBytesMost) this.#longBytes += bytes;
    else this.#unnamed.add(key);
  }

  /** Of who is no offender any more. */
  #unname(key: string): void {
    const bytes = longBytes(key);
    if (bytes > 0 && !this.#unnamed.delete(key)) this.#longBytes -= bytes;
  }
}

/** What a key takes of the room for long ones. */
function longBytes(key: string): number {
  return key.length > MOST_SHORT ? key.length * 2 : 0;
}
