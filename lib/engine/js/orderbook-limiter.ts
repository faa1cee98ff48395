// OrderbookRateLimiter's decisions. Twin of native/orderbook-limiter.h: same names, same order of
// statements.

import { monotonicSeconds } from '../../clock.js';
import type { BansInForce, SnapshotPeer } from '../../types.js';
import type { EngineStatistics, OrderbookConfig, OrderbookCore, Refusal } from '../engine.js';
import { elapsed, NEVER, secondsLeft } from './arithmetic.js';
import { isNothing, LOSS_OF_BANNED, type Loss, SAMPLE, Victim } from './eviction.js';
import { Keys, keep } from './keys.js';
import { Offenders } from './offenders.js';
import { banBegan, idleSecondsOf, lossOf } from './records.js';
import { pass, Sweep } from './sweep.js';
import { FREE_ROOM, type Place, type Room, Times } from './table.js';
import { Tally } from './tally.js';

export class JsOrderbookLimiter implements OrderbookCore {
  readonly #config: OrderbookConfig;
  /** When each peer was last allowed; NEVER after a ban that is over. */
  readonly #allowedAt = new Times();
  readonly #keys = new Keys();
  readonly #offenders: Offenders;
  /** Peers with a time and a ban, over or not. */
  #both = 0;
  readonly #sweep = new Sweep();
  readonly #tally = new Tally();

  constructor(config: OrderbookConfig) {
    this.#config = config;
    this.#offenders = new Offenders(config.maxPeers, this.#allowedAt);
  }

  check(text: string, now = monotonicSeconds()): Refusal | undefined {
    const key = this.#keys.find(text);
    if (this.#inBan(key, now)) {
      this.#offenders.addViolation(key, text);
      return this.#tally.disconnect();
    }
    const violations = this.#offenders.violations(key);
    if (violations >= this.#config.violationBanThreshold) return this.#beginBan(key, text, now);
    const place = this.#allowedAt.find(key);
    const allowedAt = place === undefined ? NEVER : this.#allowedAt.at(place);
    if (elapsed(now, allowedAt) >= this.#effectiveInterval(violations)) {
      return this.#setAllowedAt(place, key, now);
    }
    this.#offenders.addViolation(key, text);
    return this.#tally.delay();
  }

  /** A Map needs no place: it has the key's hash at hand, which V8 keeps with the string. */
  checkPeer(key: string, now = monotonicSeconds()): Refusal | undefined {
    return this.check(key, now);
  }

  isBanned(key: string, now = monotonicSeconds()): boolean {
    return this.#inBan(this.#keys.find(key), now);
  }

  violations(key: string): number {
    return this.#offenders.violations(this.#keys.find(key));
  }

  snapshot(now = monotonicSeconds()): SnapshotPeer[] {
    return this.#offenders.inOrder(now, this.#config.banDuration, (key) => {
      const place = this.#allowedAt.find(key);
      return place === undefined ? Infinity : elapsed(now, this.#allowedAt.at(place));
    });
  }

  restore(peers: readonly SnapshotPeer[], now = monotonicSeconds()): number {
    let restored = 0;
    for (const peer of peers) if (this.#restore(peer, now)) restored += 1;
    return restored;
  }

  removePeer(key: string): void {
    this.#remove(this.#keys.find(key));
  }

  cleanup(maxAge: number, budgetMs: number, now = monotonicSeconds()): number {
    const old = (key: string, place: Place) => {
      if (!(elapsed(now, this.#allowedAt.at(place)) > maxAge)) return false;
      if (this.#isInBans(key)) this.#both -= 1;
      else this.#offenders.forgive(key);
      return this.#allowedAt.delete(key);
    };
    const over = (key: string, place: Place) => {
      if (!(elapsed(now, this.#offenders.bans.at(place)) > this.#config.banDuration)) return false;
      if (this.#allowedAt.find(key) !== undefined) this.#both -= 1;
      this.#offenders.forgive(key);
      return false;
    };
    return this.#sweep.run(
      [pass(this.#allowedAt, old), pass(this.#offenders.bans, over)],
      budgetMs,
    );
  }

  isCleaning(): boolean {
    return this.#sweep.isUnderway;
  }

  statistics(): EngineStatistics {
    return {
      tracked: this.#allowedAt.size,
      peers: this.#peers,
      unnamedOffenders: this.#offenders.unnamed,
      totalViolations: this.#offenders.totalViolations,
      topViolators: this.#offenders.topViolators(),
      ...this.#tally.totals(),
    };
  }

  bannedKeys(now = monotonicSeconds()): string[] {
    return this.#offenders.bannedKeys(now, this.#config.banDuration);
  }

  longestBans(most: number, now = monotonicSeconds()): BansInForce {
    return this.#offenders.longestBans(most, now, this.#config.banDuration);
  }

  clear(): void {
    this.#allowedAt.clear();
    this.#offenders.clear();
    this.#sweep.stop();
    this.#both = 0;
  }

  get #peers(): number {
    return this.#allowedAt.size + this.#offenders.bans.size - this.#both;
  }

  #remove(key: string): void {
    const banned = this.#isInBans(key);
    if (this.#allowedAt.delete(key) && banned) this.#both -= 1;
    this.#offenders.forgive(key);
  }

  /** Whether a ban is in force; one that is over goes, its violations with it. */
  #inBan(key: string, now: number): boolean {
    const bannedAt = this.#offenders.bannedAt(key);
    if (bannedAt === NEVER) return false;
    if (elapsed(now, bannedAt) < this.#config.banDuration) return true;
    const place = this.#allowedAt.find(key);
    if (place !== undefined) this.#both -= 1;
    this.#offenders.forgive(key);
    try {
      if (place === undefined) this.#allowedAt.insert(keep(key), NEVER);
      else this.#allowedAt.set(place, NEVER);
    } catch {
      // Where there is no memory for it, a peer without an entry is allowed as well.
    }
    return false;
  }

  #restore(peer: SnapshotPeer, now: number): boolean {
    const key = this.#keys.find(peer.key);
    const began = banBegan(peer, now, this.#config.banDuration);
    // Or a ban that is over would be lengthened.
    this.#inBan(key, now);
    if (!this.#isInBans(key) && this.#allowedAt.find(key) === undefined) {
      const isBanAlone = began > NEVER && peer.idleSeconds === null;
      if (!this.#addRestored(key, peer, isBanAlone, now)) return false;
    }
    const wasInBans = this.#isInBans(key);
    this.#offenders.restore(key, peer.key, peer.violations, began);
    if (!wasInBans && this.#isInBans(key) && this.#allowedAt.find(key) !== undefined) {
      this.#both += 1;
    }
    return true;
  }

  #addRestored(key: string, peer: SnapshotPeer, isBanAlone: boolean, now: number): boolean {
    const room = this.#makeRoom(now, lossOf(peer));
    if (room === undefined) return false;
    if (!isBanAlone) {
      this.#allowedAt.insert(keep(key), now - idleSecondsOf(peer), room.place);
    } else if (room.place !== undefined) {
      this.#allowedAt.delete(this.#allowedAt.keyAt(room.place));
    }
    return true;
  }

  /** Writes to `place`, or where that is undefined to the one that the peer gets. */
  #setAllowedAt(place: Place | undefined, key: string, now: number): Refusal | undefined {
    if (place === undefined) {
      const room = this.#makeRoom(now, LOSS_OF_BANNED);
      if (room === undefined) return this.#tally.refuseNewcomer();
      this.#allowedAt.insert(keep(key), now, room.place);
    } else {
      this.#allowedAt.set(place, now);
    }
    return this.#tally.allow();
  }

  /** A ban may be all that is known of a peer. */
  #beginBan(key: string, text: string, now: number): Refusal {
    const isKnown = this.#allowedAt.find(key) !== undefined;
    if (!isKnown) {
      const room = this.#makeRoom(now, LOSS_OF_BANNED);
      if (room === undefined) return this.#tally.refuseNewcomer();
      if (room.place !== undefined) this.#allowedAt.delete(this.#allowedAt.keyAt(room.place));
    }
    this.#offenders.beginBan(key, text, now);
    if (isKnown) this.#both += 1;
    return this.#tally.beginBan();
  }

  /** Room for a newcomer: where there are maxPeers, one that is missed less goes. */
  #makeRoom(now: number, worth: Loss): Room | undefined {
    if (this.#peers < this.#config.maxPeers) return FREE_ROOM;
    const victim = new Victim(worth);
    this.#allowedAt.sample(SAMPLE, (place) => {
      const idle = elapsed(now, this.#allowedAt.at(place));
      const seconds = secondsLeft(this.#effectiveInterval(0), idle);
      if (!victim.mayBe(seconds)) return false;
      return victim.offer(place, this.#lossOf(this.#allowedAt.keyAt(place), seconds, idle, now));
    });
    // Of some peers only a ban is known, which may be over.
    const { bans } = this.#offenders;
    const lapsed = new Victim(victim.loss);
    if (!isNothing(victim.loss) && bans.size > this.#both) {
      bans.sample(SAMPLE, (place) => {
        const served = elapsed(now, bans.at(place));
        return lapsed.offer(place, this.#lossOf(bans.keyAt(place), 0, served, now));
      });
    }
    if (lapsed.place !== undefined) {
      this.#tally.countEviction(lapsed.loss);
      this.#remove(bans.keyAt(lapsed.place));
      return FREE_ROOM;
    }
    if (victim.place === undefined) return undefined;
    this.#tally.countEviction(victim.loss);
    const key = this.#allowedAt.keyAt(victim.place);
    if (this.#isInBans(key)) this.#both -= 1;
    this.#offenders.forgive(key);
    return { place: victim.place };
  }

  #lossOf(key: string, seconds: number, idle: number, now: number): Loss {
    return this.#offenders.lossOf(key, seconds, idle, now, this.#config.banDuration);
  }

  #isInBans(key: string): boolean {
    return this.#offenders.bannedAt(key) !== NEVER;
  }

  #effectiveInterval(violations: number): number {
    if (violations < this.#config.violationWarningThreshold) return this.#config.interval;
    if (violations < this.#config.violationSevereThreshold) return this.#config.interval * 6;
    return this.#config.interval * 30;
  }
}
