// The bans that this process knows, and when they end. Knows nothing of the store.
//
// A ban has two ends: by the fleet's clock, as all processes know it, and by this process's clock, at which it ends here.
// The second is set once, so no correction of the first changes it.
//
// At most `maxPeers` entries are kept. Beyond that an insertion evicts, of the entries without a ban, the one that was
// raised the longest time ago. If all entries are bans, it evicts the one of 16 that ends first.

import { KeyMap } from '../../tables/key-map.js';
import { MOST_KEYS } from '../../tables/table.js';
import { isId } from '../store/keys.js';
import { LEVEL_SECONDS, MAX_BAN_SECONDS } from './ban-scripts.js';
import { type BanState, essentialTerms, NOTHING, type Term, TICK_SECONDS } from './ban-state.js';
import type { SharedBan } from './shared-ban.js';

/** A ban and when it ends here. */
interface LocalTerm extends Term {
  readonly endsHere: number;
}

interface Entry extends BanState<LocalTerm> {
  /** When the last ban ends here; minus infinity if there is none. */
  readonly endsHere: number;
  /** When the entry may be deleted, by this process's clock. */
  readonly expires: number;
}

/** What a change means for a peer. `ended`: it has no ban, or a shorter one, because of a lift. */
export type Effect = 'none' | 'raised' | 'ended';

/** The time by this process's clock and by the fleet's. */
export interface Moment {
  readonly here: number;
  readonly fleet: number;
}

type Entries = KeyMap<Entry>;

const NEVER = Number.NEGATIVE_INFINITY;
/** Bans that end so close to each other are the same: whoever finds one again need not shorten the other. */
const SAME_SECONDS = 0.5;
/** Seconds for which a lift is kept. */
const LIFT_SECONDS = 3600;
/** Entries of each kind that an insertion checks for expiry, so that expired entries do not pile up. */
const EXPIRY_CHECKS = 2;
/** Bans of which one is evicted. */
const EVICTION_SAMPLE = 16;

/** Whether a key from another process can be an id. Anybody can publish anything. */
export function isKey(key: unknown): key is string {
  return typeof key === 'string' && isId(key);
}

export class LocalBans {
  readonly #maxPeers: number;
  readonly #bans: Entries = new KeyMap();
  /** Violations and lifts without a ban, in the order in which they were raised. */
  readonly #levels: Entries = new KeyMap();
  readonly #banCursor = new Cursor(this.#bans);
  readonly #levelCursor = new Cursor(this.#levels);

  constructor(maxPeers: number) {
    this.#maxPeers = Math.min(maxPeers, MOST_KEYS);
  }

  /** Whether there is any ban, in force or over. */
  get hasBans(): boolean {
    return this.#bans.size > 0;
  }

  /** Adds a ban, or only violations if its seconds are 0. The effect is `none` if it is shorter than one in force. */
  add({ key, seconds, violations }: SharedBan, now: Moment): Effect {
    const known = this.#live(key, now.here);
    const terms: LocalTerm[] = [];
    if (seconds > 0) {
      // After a lift that this process knows, whatever the clocks say.
      const made = Math.max(now.fleet, (known?.lifted ?? 0) + TICK_SECONDS);
      const endsHere = now.here + seconds;
      const same = known?.terms.find((term) => {
        return term.endsHere >= endsHere && term.endsHere - endsHere <= SAME_SECONDS;
      });
      const ends = same?.ends ?? made + Math.min(seconds, MAX_BAN_SECONDS);
      terms.push({ made, ends, endsHere: same?.endsHere ?? endsHere });
    }
    return this.#merge(key, { lifted: known?.lifted ?? 0, terms, violations }, now.here);
  }

  /** Lifts all bans of a peer that this process knows, and forgets its violations. */
  lift(key: string, now: Moment): Effect {
    const known = this.#live(key, now.here);
    const last = Math.max(known?.lifted ?? 0, ...(known?.terms ?? []).map(({ made }) => made));
    const lifted = Math.max(now.fleet, last + TICK_SECONDS);
    return this.#merge(key, { lifted, terms: [], violations: 0 }, now.here);
  }

  /** Merges a state that the store or another process knows. */
  merge(key: string, state: BanState, now: Moment): Effect {
    const known = this.#live(key, now.here);
    const terms = state.terms.map(({ made, ends }) => {
      const same = known?.terms.find((term) => term.made === made && term.ends === ends);
      // A ban that is found again, or whose end the store has made the same, ends when it ended.
      const endsHere = same?.endsHere ?? now.here + ends - now.fleet;
      return { made, ends, endsHere };
    });
    return this.#merge(key, { ...state, terms }, now.here);
  }

  #merge(key: string, state: BanState<LocalTerm>, now: number): Effect {
    const known: BanState<LocalTerm> = this.#live(key, now) ?? NOTHING;
    const before = lastEnd(known, now);
    const lifted = Math.max(known.lifted, state.lifted);
    const all = [...known.terms, ...state.terms].filter(({ made, endsHere }) => {
      return made > lifted && endsHere > now;
    });
    const terms = essentialTerms(all);
    const countOf = (one: BanState<LocalTerm>) => {
      const isOver = one.terms.length > 0 && one.terms.every(({ endsHere }) => endsHere <= now);
      const counts = one.lifted === lifted || one.terms.some((term) => all.includes(term));
      return counts && !isOver ? one.violations : 0;
    };
    const violations = Math.max(countOf(known), countOf(state));
    const endsHere = lastEnd({ lifted, terms, violations }, now);
    const isSame =
      lifted === known.lifted &&
      violations === known.violations &&
      terms.length === known.terms.length &&
      terms.every((term, at) => term === known.terms[at]);
    if (!isSame) this.#set(key, { lifted, terms, violations, endsHere }, known, now);
    if (endsHere < before || (violations < known.violations && lifted > known.lifted)) {
      return 'ended';
    }
    return endsHere > before + SAME_SECONDS || violations > known.violations ? 'raised' : 'none';
  }

  #set(key: string, state: Omit<Entry, 'expires'>, known: BanState<LocalTerm>, now: number): void {
    const levelExpires = state.violations > 0 ? now + LEVEL_SECONDS : NEVER;
    // As long as the bans that it ended would have lasted: other processes may know them still.
    const liftExpires =
      state.lifted > 0
        ? Math.max(now + LIFT_SECONDS, lastEnd(known, now), this.#live(key, now)?.expires ?? NEVER)
        : NEVER;
    const expires = Math.max(state.endsHere, levelExpires, liftExpires);
    this.delete(key);
    if (expires <= now) return;
    this.#makeRoom(now);
    const entries = state.endsHere > now ? this.#bans : this.#levels;
    entries.set(key, { ...state, expires });
  }

  delete(key: string): void {
    this.#bans.delete(key);
    this.#levels.delete(key);
  }

  /** Adds seconds to all times by the fleet's clock. O(entries). */
  correct(seconds: number): void {
    for (const entries of [this.#bans, this.#levels]) {
      for (const [key, entry] of [...entries]) {
        const lifted = entry.lifted === 0 ? 0 : entry.lifted + seconds;
        const terms = entry.terms.map((term) => {
          return { ...term, made: term.made + seconds, ends: term.ends + seconds };
        });
        entries.set(key, { ...entry, lifted, terms });
      }
    }
  }

  /** Seconds that the ban has left; 0 if there is none. O(1). */
  secondsLeft(key: string, now: number): number {
    const entry = this.#bans.get(key);
    return entry === undefined ? 0 : Math.max(0, entry.endsHere - now);
  }

  find(key: string, now: number): SharedBan | undefined {
    const entry = this.#live(key, now);
    if (entry === undefined) return undefined;
    const { endsHere, violations } = entry;
    return { key, seconds: Math.max(0, endsHere - now), violations };
  }

  /** What is known of a peer, by the fleet's clock: bans that are over here are not in it. */
  stateOf(key: string, now: number): BanState | undefined {
    const entry = this.#live(key, now);
    if (entry === undefined) return undefined;
    return { ...entry, terms: entry.terms.filter(({ endsHere }) => endsHere > now) };
  }

  /** All bans and violations. */
  all(now: number): SharedBan[] {
    return this.keys()
      .map((key) => this.find(key, now))
      .filter((ban) => ban !== undefined && (ban.seconds > 0 || ban.violations > 0)) as SharedBan[];
  }

  keys(): string[] {
    return [...this.#levels.keys(), ...this.#bans.keys()];
  }

  /** The number of bans in force. O(number of bans). */
  countBans(now: number): number {
    let count = 0;
    for (const { endsHere } of this.#bans.values()) if (endsHere > now) count += 1;
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
    const sample = this.#banCursor.next(EVICTION_SAMPLE);
    const [first] = sample.sort(([, a], [, b]) => a.endsHere - b.endsHere);
    if (first !== undefined) this.#bans.delete(first[0]);
  }
}

/** When the last ban ends here; minus infinity if none is in force. */
function lastEnd({ terms }: BanState<LocalTerm>, now: number): number {
  const ends = terms.at(-1)?.endsHere ?? NEVER;
  return ends > now ? ends : NEVER;
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
