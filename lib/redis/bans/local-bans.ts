// The bans that this process knows of, and until when. Knows no store.
//
// There are at most `maxPeers` of them. Where one more comes, the level of violations goes that was raised
// the longest time ago; where there are bans alone, of sixteen the one that ends first.

import { MOST_KEYS } from '../../engine/js/table.js';
import { KeyMap } from '../../key-map.js';
import { isId } from '../store/keys.js';
import { LEVEL_SECONDS, SAME_SECONDS } from './ban-scripts.js';
import type { SharedBan } from './shared-ban.js';

interface Entry {
  /** When the ban ends, in seconds; minus infinity: there is none. */
  until: number;
  violations: number;
  /** When it may be forgotten. */
  expires: number;
}

type Entries = KeyMap<Entry>;

const NEVER = Number.NEGATIVE_INFINITY;
/** Entries looked at with each new one, so that those that are over do not gather. */
const LOOKED_AT = 2;
/** Bans of which one goes. */
const SAMPLE = 16;

/** Whether it can be one that was found, with its id as the key: others publish what they like. */
export function isBan({ key, seconds, violations }: SharedBan): boolean {
  const isKnown = typeof key === 'string' && isId(key);
  const isTime = Number.isFinite(seconds) && seconds >= 0;
  return isKnown && isTime && Number.isSafeInteger(violations) && violations >= 0;
}

export class BanBook {
  readonly #maxPeers: number;
  readonly #bans: Entries = new KeyMap();
  /** In the order in which they were raised. */
  readonly #levels: Entries = new KeyMap();
  readonly #banRound = new Round(this.#bans);
  readonly #levelRound = new Round(this.#levels);

  constructor(maxPeers: number) {
    this.#maxPeers = Math.min(maxPeers, MOST_KEYS);
  }

  /** Merges what was found: the later end, and the larger number. False if that changes nothing. */
  add({ key, seconds, violations }: SharedBan, now: number): boolean {
    const known = this.#live(key, now);
    const until = Math.max(seconds > 0 ? now + seconds : NEVER, known?.until ?? NEVER);
    const most = Math.max(violations, known?.violations ?? 0);
    const isNew = until > (known?.until ?? NEVER) + SAME_SECONDS;
    if (known !== undefined && !isNew && most === known.violations) return false;
    if (until === NEVER && most === 0) return false;
    const level = most > 0 ? now + LEVEL_SECONDS : NEVER;
    this.delete(key);
    this.#forgetSome(now);
    const entries = until > now ? this.#bans : this.#levels;
    entries.set(key, { until, violations: most, expires: Math.max(until, level) });
    return true;
  }

  delete(key: string): void {
    this.#bans.delete(key);
    this.#levels.delete(key);
  }

  secondsLeft(key: string, now: number): number {
    const entry = this.#bans.get(key);
    return entry === undefined ? 0 : Math.max(0, entry.until - now);
  }

  entry(key: string, now: number): SharedBan | undefined {
    const entry = this.#live(key, now);
    if (entry === undefined) return undefined;
    return { key, seconds: Math.max(0, entry.until - now), violations: entry.violations };
  }

  all(now: number): SharedBan[] {
    return [...this.#levels.keys(), ...this.#bans.keys()]
      .map((key) => this.entry(key, now))
      .filter((ban) => ban !== undefined);
  }

  /** How many bans are in force. */
  bans(now: number): number {
    let count = 0;
    for (const { until } of this.#bans.values()) if (until > now) count += 1;
    return count;
  }

  #live(key: string, now: number): Entry | undefined {
    const entry = this.#bans.get(key) ?? this.#levels.get(key);
    return entry !== undefined && entry.expires > now ? entry : undefined;
  }

  /** Some of those that are over; and one that is not where there is no room else. */
  #forgetSome(now: number): void {
    for (const round of [this.#banRound, this.#levelRound]) {
      for (const [key, { expires }] of round.next(LOOKED_AT)) if (expires <= now) this.delete(key);
    }
    if (this.#bans.size + this.#levels.size < this.#maxPeers) return;
    for (const [oldest] of this.#levels) {
      this.#levels.delete(oldest);
      return;
    }
    const [first] = this.#banRound.next(SAMPLE).sort(([, a], [, b]) => a.until - b.until);
    if (first !== undefined) this.#bans.delete(first[0]);
  }
}

/** Goes round and round through entries, some at a time. */
class Round {
  readonly #entries: Entries;
  #at: Iterator<[string, Entry]>;

  constructor(entries: Entries) {
    this.#entries = entries;
    this.#at = entries.entries();
  }

  /** The next ones; none twice, so there may be fewer. */
  next(count: number): [string, Entry][] {
    const found = new KeyMap<Entry>();
    while (found.size < Math.min(count, this.#entries.size)) {
      const next = this.#at.next();
      if (next.done) this.#at = this.#entries.entries();
      else if (found.has(next.value[0])) break;
      else found.set(...next.value);
    }
    return [...found.entries()];
  }
}
