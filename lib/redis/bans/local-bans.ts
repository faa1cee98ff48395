// The bans that this process knows, and when they end. Knows nothing of the store.
//
// At most `maxPeers` entries are kept. Beyond that an insertion evicts, of the entries without a ban, the one that was
// raised the longest time ago. If all entries are bans, it evicts the one of 16 that ends first.

import { KeyMap } from '../../tables/key-map.js';
import { MOST_KEYS } from '../../tables/table.js';
import { isId } from '../store/keys.js';
import { LEVEL_SECONDS, SAME_SECONDS } from './ban-scripts.js';
import type { SharedBan } from './shared-ban.js';

interface Entry {
  /** When the ban ends, in seconds; minus infinity if there is none. */
  ends: number;
  violations: number;
  /** When the entry may be deleted. */
  expires: number;
}

type Entries = KeyMap<Entry>;

const NEVER = Number.NEGATIVE_INFINITY;
/** Entries of each kind that an insertion checks for expiry, so that expired entries do not pile up. */
const EXPIRY_CHECKS = 2;
/** Bans of which one is evicted. */
const EVICTION_SAMPLE = 16;

/** Whether a ban from another process is valid, with an id as its key. Anybody can publish anything. */
export function isValidBan({ key, seconds, violations }: SharedBan): boolean {
  const isKey = typeof key === 'string' && isId(key);
  const isTime = Number.isFinite(seconds) && seconds >= 0;
  return isKey && isTime && Number.isSafeInteger(violations) && violations >= 0;
}

export class LocalBans {
  readonly #maxPeers: number;
  readonly #bans: Entries = new KeyMap();
  /** Violations without a ban, in the order in which they were raised. */
  readonly #levels: Entries = new KeyMap();
  readonly #banCursor = new Cursor(this.#bans);
  readonly #levelCursor = new Cursor(this.#levels);

  constructor(maxPeers: number) {
    this.#maxPeers = Math.min(maxPeers, MOST_KEYS);
  }

  /** Merges a ban: the later end and the larger number of violations are kept. False if nothing changes. */
  add({ key, seconds, violations }: SharedBan, now: number): boolean {
    const known = this.#live(key, now);
    const ends = Math.max(seconds > 0 ? now + seconds : NEVER, known?.ends ?? NEVER);
    const most = Math.max(violations, known?.violations ?? 0);
    const isLonger = ends > (known?.ends ?? NEVER) + SAME_SECONDS;
    if (known !== undefined && !isLonger && most === known.violations) return false;
    if (ends === NEVER && most === 0) return false;
    const levelExpires = most > 0 ? now + LEVEL_SECONDS : NEVER;
    this.delete(key);
    this.#makeRoom(now);
    const entries = ends > now ? this.#bans : this.#levels;
    entries.set(key, { ends, violations: most, expires: Math.max(ends, levelExpires) });
    return true;
  }

  delete(key: string): void {
    this.#bans.delete(key);
    this.#levels.delete(key);
  }

  /** Seconds that the ban has left; 0 if there is none. O(1). */
  secondsLeft(key: string, now: number): number {
    const entry = this.#bans.get(key);
    return entry === undefined ? 0 : Math.max(0, entry.ends - now);
  }

  find(key: string, now: number): SharedBan | undefined {
    const entry = this.#live(key, now);
    if (entry === undefined) return undefined;
    return { key, seconds: Math.max(0, entry.ends - now), violations: entry.violations };
  }

  all(now: number): SharedBan[] {
    return [...this.#levels.keys(), ...this.#bans.keys()]
      .map((key) => this.find(key, now))
      .filter((ban) => ban !== undefined);
  }

  /** The number of bans in force. O(number of bans). */
  countBans(now: number): number {
    let count = 0;
    for (const { ends } of this.#bans.values()) if (ends > now) count += 1;
    return count;
  }

  #live(key: string, now: number): Entry | undefined {
    const entry = this.#bans.get(key) ?? this.#levels.get(key);
    return entry !== undefined && entry.expires > now ? entry : undefined;
  }

  /** Deletes some expired entries, and evicts one entry if there are still `maxPeers`. */
  #makeRoom(now: number): void {
    for (const cursor of [this.#banCursor, this.#levelCursor]) {
      for (const [key, { expires }] of cursor.next(EXPIRY_CHECKS)) {
        if (expires <= now) this.delete(key);
      }
    }
    if (this.#bans.size + this.#levels.size < this.#maxPeers) return;
    for (const [oldest] of this.#levels) {
      this.#levels.delete(oldest);
      return;
    }
    const [first] = this.#banCursor.next(EVICTION_SAMPLE).sort(([, a], [, b]) => a.ends - b.ends);
    if (first !== undefined) this.#bans.delete(first[0]);
  }
}

/** A position among entries that starts again at the first one after the last one. */
class Cursor {
  readonly #entries: Entries;
  #iterator: Iterator<[string, Entry]>;

  constructor(entries: Entries) {
    this.#entries = entries;
    this.#iterator = entries.entries();
  }

  /** Returns up to `count` different entries. */
  next(count: number): [string, Entry][] {
    const found = new KeyMap<Entry>();
    while (found.size < Math.min(count, this.#entries.size)) {
      const next = this.#iterator.next();
      if (next.done) this.#iterator = this.#entries.entries();
      else if (found.has(next.value[0])) break;
      else found.set(...next.value);
    }
    return [...found.entries()];
  }
}
