// Offenders: the peers with violations or a ban, in the order they offended. Twin of
// native/limiters/offenders.h. Knows no limiter; when a ban is over is for its user to say. A key is what
// Keys.find returns, and `text` what it was given.
//
// The text of keys is bounded. A key of MOST_UNITS code units is always kept, one of up to LONG_UNITS
// while all that are longer than MOST_UNITS stay within the room for them, and one beyond that while
// they stay within a quarter of it: few huge ones leave room for others. Else its peer is punished
// without a name. Which it is, is decided as it becomes an offender.

import { detachString } from '../../common/strings.js';
import type { BansInForce, SnapshotPeer, Violator } from '../../common/types.js';
import { elapsed, NEVER } from '../../tables/arithmetic.js';
import { KeyMap } from '../../tables/key-map.js';
import { MOST_UNITS } from '../../tables/keys.js';
import { MOST_NOTE, type Place, store, Table } from '../../tables/table.js';
import { Sum, saturatedSum } from './counts.js';
import { COST_OF_BANNED, costOfClean, costOfOffender, type EvictionCost } from './eviction-cost.js';
import { reserveStack } from './stack.js';
import type { Pass } from './sweep.js';
import { TopViolators } from './top-violators.js';

/** What long keys may take together, at two bytes a unit: at least, and for each peer. */
const LEAST_LONG_BYTES = 2 ** 20;
const LONG_BYTES_PER_PEER = 64;
const BYTES_PER_UNIT = 2;
/** The longest key that all of that is for. */
const LONG_UNITS = 1024;

/**
 * What the peers' table notes of each record, so that eviction need not look up violations: none, how
 * many, that there are too many to note, or that there is a ban, over or not.
 */
const BAN = MOST_NOTE;
const MANY = MOST_NOTE - 1;

/** Bans among which the longest are looked for: at least, and twice as many as are. */
const LEAST_KEPT = 1000;

/** Violations of each offender, at least 1, and its place in the order of first violations. */
class Violations extends Table {
  constructor() {
    super(2);
  }

  insert(key: string, order: number): Place {
    const place = this.add(key, undefined);
    this.doubles[place * 2] = 0;
    this.doubles[place * 2 + 1] = order;
    return place;
  }

  count(place: Place): number {
    return this.doubles[place * 2] as number;
  }

  setCount(place: Place, count: number): void {
    this.doubles[place * 2] = count;
  }

  order(place: Place): number {
    return this.doubles[place * 2 + 1] as number;
  }
}

/** When each ban began, and its place in the order of bans. */
class Bans extends Table {
  constructor() {
    super(2);
  }

  at(place: Place): number {
    return this.doubles[place * 2] as number;
  }

  set(place: Place, began: number): void {
    this.doubles[place * 2] = began;
  }

  order(place: Place): number {
    return this.doubles[place * 2 + 1] as number;
  }

  insert(key: string, began: number, order: number): Place {
    const place = this.add(key, undefined);
    this.set(place, began);
    this.doubles[place * 2 + 1] = order;
    return place;
  }
}

export class Offenders {
  /** When each ban began. */
  readonly bans = new Bans();
  /** No ban began before: the earliest since there was none, or since the last sweep. */
  #earliest = Infinity;
  /** The earliest start among the bans that the present sweep has kept and those that began since it began. */
  #earliestSwept = Infinity;
  /** Violations of each offender, at least 1, in the order of their first. */
  readonly #violations = new Violations();
  readonly #top = new TopViolators();
  /** Offenders that have violations and are named. */
  #violators = 0;
  #lastOrder = 0;
  readonly #total = new Sum();
  readonly #longBytesMost: number;
  #longBytes = 0;
  /** The texts of those whose keys are aliases, and that are named. */
  readonly #texts = new KeyMap<string>();
  #unnamed = 0;

  readonly #peers: Table;

  /**
   * For a limiter of so many peers, whose keys are those of a table. An offender has a record there,
   * unless it has a ban.
   */
  constructor(maxPeers: number, peers: Table) {
    this.#peers = peers;
    this.#longBytesMost = Math.max(LEAST_LONG_BYTES, maxPeers * LONG_BYTES_PER_PEER);
  }

  get unnamed(): number {
    return this.#unnamed;
  }

  get totalViolations(): number {
    return this.#total.value;
  }

  violations(key: string): number {
    const place = this.#violations.find(key);
    return place === undefined ? 0 : this.#violations.count(place);
  }

  /** Counts one more, and returns how many it makes. */
  addViolation(key: string, text: string): number {
    const before = this.violations(key);
    const violations = saturatedSum(before, 1);
    this.#setViolations(key, text, before, violations);
    return violations;
  }

  /**
   * Makes violations at least as many as those, and where `began` is an instant puts a ban of then in
   * the place of none or of an earlier one.
   */
  restore(key: string, text: string, violations: number, began: number): void {
    const before = this.violations(key);
    if (violations > before) this.#setViolations(key, text, before, violations);
    // Last: whoever counts bans hears of none where memory runs out.
    if (began > NEVER) this.#restoreBan(key, text, began);
  }

  /** When the peer's ban began, over or not; NEVER without one. */
  bannedAt(key: string): number {
    const place = this.bans.size === 0 ? undefined : this.bans.find(key);
    return place === undefined ? NEVER : this.bans.at(place);
  }

  /**
   * What is lost with a peer who without its offences would be `seconds` from a fresh one, after a
   * ban that is over `afterBan`, and has been idle for so long. Such a ban goes with the next check,
   * its violations with it: neither is anything to lose. `place` is that of its record among the
   * peers, undefined where it has none there.
   */
  evictionCostOf(
    place: Place | undefined,
    seconds: number,
    afterBan: number,
    idle: number,
    now: number,
    banDuration: number,
  ): EvictionCost {
    if (place === undefined) return costOfClean(seconds);
    const note = this.#peers.noteAt(place);
    if (note === 0) return costOfClean(seconds);
    if (note < MANY) return costOfOffender(note, idle);
    if (this.isBannedAt(place, now, banDuration)) return COST_OF_BANNED;
    const key = this.#peers.keyAt(place);
    if (note === MANY) return costOfOffender(this.violations(key), idle);
    const isOver = elapsed(now, this.bannedAt(key)) >= banDuration;
    return isOver ? costOfClean(afterBan) : COST_OF_BANNED;
  }

  /**
   * Whether it is certain, without a search, that all of so many peers are banned.
   */
  areAllBanned(peers: number, now: number, banDuration: number): boolean {
    return this.bans.size >= peers && !this.mayAnyBeOver(now, banDuration);
  }

  /** Whether a ban may be over. */
  mayAnyBeOver(now: number, banDuration: number): boolean {
    return this.bans.size > 0 && elapsed(now, this.#earliest) >= banDuration;
  }

  /** Visits the bans; peers for which over(key, place) is true are forgiven. */
  banPass(over: (key: string, place: Place) => boolean): Pass {
    return {
      size: this.bans.size,
      entries: () => {
        this.#earliestSwept = Infinity;
        return this.bans.entries();
      },
      visit: (key, value) => {
        const place = value as Place;
        const began = this.bans.at(place);
        if (over(key, place)) this.forgive(key);
        else this.#earliestSwept = Math.min(this.#earliestSwept, began);
        return false;
      },
      end: () => {
        this.#earliest = this.#earliestSwept;
      },
    };
  }

  /** Whether the note of a record among the peers is enough to know that its peer is banned. */
  isBannedAt(place: Place, now: number, banDuration: number): boolean {
    return this.#peers.noteAt(place) === BAN && !this.mayAnyBeOver(now, banDuration);
  }

  /** For a peer without a ban. */
  beginBan(key: string, text: string, now: number): void {
    this.#offend(key, text, (own) => void this.bans.insert(own, now, this.#lastOrder + 1));
    this.#lastOrder += 1;
    this.#earliest = Math.min(this.#earliest, now);
    this.#earliestSwept = Math.min(this.#earliestSwept, now);
    this.#note(key, BAN);
  }

  /** Lifts a ban; violations stay. */
  liftBan(key: string): void {
    if (!this.#deleteBan(key)) return;
    const violations = this.violations(key);
    if (violations === 0) this.#unname(key);
    this.#note(key, Math.min(violations, MANY));
  }

  /** Forgets violations and ban. */
  forgive(key: string): void {
    const hadViolations = this.#deleteViolations(key);
    const hadBan = this.#deleteBan(key);
    if (!hadViolations && !hadBan) return;
    this.#unname(key);
    this.#note(key, 0);
  }

  clear(): void {
    this.#violations.clear();
    this.bans.clear();
    this.#top.clear();
    this.#violators = 0;
    this.#earliest = Infinity;
    this.#texts.clear();
    this.#unnamed = 0;
    this.#longBytes = 0;
    this.#total.clear();
  }

  /** The worst, most violations first; ties by who offended first. */
  topViolators(): Violator[] {
    if (!this.#top.holds(this.#violators)) this.#recount();
    return this.#top.keys().map((key) => [this.#textOf(key), this.violations(key)]);
  }

  #recount(): void {
    reserveStack();
    let others = 0;
    this.#top.clear();
    for (const [key, place] of this.#violations.entries()) {
      if (!this.#isNamed(key)) continue;
      const violations = this.#violations.count(place);
      this.#top.count(key, violations, this.#violations.order(place), others);
      others += 1;
    }
  }

  /** Keys of bans that are not over, in the order they began. */
  bannedKeys(now: number, banDuration: number): string[] {
    return this.#bannedInOrder(now, banDuration).map((key) => this.#textOf(key));
  }

  /** How many bans are not over; and those of `bannedKeys` with the longest left, longest first. */
  longestBans(most: number, now: number, banDuration: number): BansInForce {
    let count = 0;
    let kept: [key: string, began: number, order: number][] = [];
    const keepLongest = () => {
      kept.sort((a, b) => b[1] - a[1] || b[2] - a[2]);
      kept = kept.slice(0, most);
    };
    for (const [key, place] of this.bans.entries()) {
      const began = this.bans.at(place);
      if (!(elapsed(now, began) < banDuration)) continue;
      count += 1;
      if (most > 0 && this.#isNamed(key)) kept.push([key, began, count]);
      // Sorting now and then costs a pass less than a heap would, for entries mostly come in order.
      if (kept.length === Math.max(LEAST_KEPT, 2 * most)) keepLongest();
    }
    keepLongest();
    const bans = kept.map(([key, began]): [string, number] => {
      return [this.#textOf(key), banDuration - elapsed(now, began)];
    });
    return { count, bans };
  }

  #bannedInOrder(now: number, banDuration: number): string[] {
    const banned: [key: string, began: number][] = [];
    for (const [key, place] of this.bans.entries()) {
      const began = this.bans.at(place);
      if (elapsed(now, began) < banDuration && this.#isNamed(key)) banned.push([key, began]);
    }
    banned.sort(([, a], [, b]) => a - b);
    return banned.map(([key]) => key);
  }

  /** The last of all places in the order so far: who becomes an offender later has a later one. */
  get lastOrder(): number {
    return this.#lastOrder;
  }

  /**
   * Keys of those that are not late, in the order of their first violations, and behind them those whose
   * violations, if there are any, are later than `last`, in the order in which their bans were recorded. Others may
   * come and go between two of them.
   */
  *inOrder(last: number): Generator<string> {
    for (const [key, place] of this.#violations.entries()) {
      if (this.#violations.order(place) > last) break;
      yield key;
    }
    for (const [key, place] of this.bans.entries()) {
      if (this.bans.order(place) > last) break;
      const violations = this.#violations.find(key);
      if (violations === undefined || this.#violations.order(violations) > last) yield key;
    }
  }

  /**
   * Whether both its violations and its ban, if there are any, came after the place `last` was taken. One that is
   * not has been an offender ever since.
   */
  isLate(key: string, last: number): boolean {
    const violations = this.#violations.find(key);
    if (violations !== undefined && this.#violations.order(violations) <= last) return false;
    const ban = this.bans.find(key);
    return ban === undefined || this.bans.order(ban) > last;
  }

  /** What a snapshot says of a named offender; undefined of any other, and after a ban that is over. */
  listed(
    key: string,
    now: number,
    banDuration: number,
  ): Pick<SnapshotPeer, 'key' | 'violations' | 'banSecondsLeft'> | undefined {
    const violations = this.violations(key);
    const began = this.bannedAt(key);
    if ((violations === 0 && began === NEVER) || !this.#isNamed(key)) return undefined;
    if (began === NEVER) return { key: this.#textOf(key), violations, banSecondsLeft: null };
    const served = elapsed(now, began);
    if (!(served < banDuration)) return undefined;
    return { key: this.#textOf(key), violations, banSecondsLeft: banDuration - served };
  }

  #setViolations(key: string, text: string, before: number, violations: number): void {
    if (before === 0) {
      this.#offend(key, text, (own) => void this.#violations.insert(own, this.#lastOrder + 1));
      this.#lastOrder += 1;
      if (this.#isNamed(key)) this.#violators += 1;
    }
    const place = this.#violations.find(key) as Place;
    this.#violations.setCount(place, violations);
    this.#total.add(violations - before);
    if (this.#isNamed(key)) {
      const own = this.#violations.keyAt(place);
      this.#top.count(own, violations, this.#violations.order(place), this.#violators - 1);
    }
    this.#note(key, this.bannedAt(key) === NEVER ? Math.min(violations, MANY) : BAN);
  }

  #deleteViolations(key: string): boolean {
    const place = this.#violations.find(key);
    if (place === undefined) return false;
    const violations = this.#violations.count(place);
    if (this.#isNamed(key)) {
      this.#violators -= 1;
      this.#top.forget(violations, this.#violations.order(place));
    }
    this.#total.subtract(violations);
    return this.#violations.delete(key);
  }

  /** For eviction, which asks of nobody who has no record. */
  #note(key: string, note: number): void {
    const place = this.#peers.find(key);
    if (place !== undefined) this.#peers.setNote(place, note);
  }

  /** Names whom `enter` makes an offender, unless it throws; it is given the key to keep. */
  #offend(key: string, text: string, enter: (key: string) => void): void {
    const isNew = !this.#isOffender(key);
    if (isNew) this.#name(key, text);
    try {
      enter(this.#peers.ownKey(key));
    } catch (error) {
      if (isNew) this.#unname(key);
      throw error;
    }
  }

  #deleteBan(key: string): boolean {
    const had = this.bans.delete(key);
    if (had && this.bans.size === 0) this.#earliest = Infinity;
    return had;
  }

  /** The same ban, or one that began later. */
  #restoreBan(key: string, text: string, began: number): void {
    const place = this.bans.find(key);
    if (place === undefined) this.beginBan(key, text, began);
    else this.bans.set(place, Math.max(this.bans.at(place), began));
  }

  #isOffender(key: string): boolean {
    return this.#violations.find(key) !== undefined || this.bans.find(key) !== undefined;
  }

  #isNamed(key: string): boolean {
    return key.length <= MOST_UNITS || this.#texts.has(key);
  }

  #textOf(key: string): string {
    return this.#texts.get(key) ?? key;
  }

  /** Of who becomes an offender. */
  #name(key: string, text: string): void {
    if (key.length <= MOST_UNITS) return;
    const bytes = text.length * BYTES_PER_UNIT;
    const most = text.length > LONG_UNITS ? this.#longBytesMost / 4 : this.#longBytesMost;
    if (this.#longBytes + bytes > most) {
      this.#unnamed += 1;
      return;
    }
    store(this.#texts, key, detachString(text));
    this.#longBytes += bytes;
  }

  /** Of who is no offender any more. */
  #unname(key: string): void {
    if (key.length <= MOST_UNITS) return;
    const text = this.#texts.get(key);
    if (text === undefined) {
      this.#unnamed -= 1;
      return;
    }
    this.#texts.delete(key);
    this.#longBytes -= text.length * BYTES_PER_UNIT;
  }
}
