// The bans that this process knows of, and until when. Knows no store.

import { LEVEL_SECONDS, SAME_SECONDS } from './ban-scripts.js';
import type { SharedBan } from './bans.js';

interface Entry {
  /** When the ban ends, in seconds; minus infinity: there is none. */
  until: number;
  violations: number;
  /** When it may be forgotten. */
  expires: number;
}

/** Entries looked at with each new one, so that those that are over do not gather. */
const LOOKED_AT = 2;

export class BanBook {
  readonly #entries = new Map<string, Entry>();
  #sweep = this.#entries.entries();

  /** Merges what was found: the later end, and the larger number. False if that changes nothing. */
  add({ key, seconds, violations }: SharedBan, now: number): boolean {
    const known = this.#live(key, now);
    const until = seconds > 0 ? now + seconds : Number.NEGATIVE_INFINITY;
    const entry = {
      until: Math.max(until, known?.until ?? Number.NEGATIVE_INFINITY),
      violations: Math.max(violations, known?.violations ?? 0),
    };
    const isNew = entry.until > (known?.until ?? Number.NEGATIVE_INFINITY) + SAME_SECONDS;
    if (known !== undefined && !isNew && entry.violations === known.violations) return false;
    const level = entry.violations > 0 ? now + LEVEL_SECONDS : Number.NEGATIVE_INFINITY;
    this.#entries.set(key, { ...entry, expires: Math.max(entry.until, level) });
    for (let i = 0; i < LOOKED_AT; i += 1) this.#lookAtOne(now);
    return true;
  }

  delete(key: string): void {
    this.#entries.delete(key);
  }

  secondsLeft(key: string, now: number): number {
    const entry = this.#entries.get(key);
    return entry === undefined ? 0 : Math.max(0, entry.until - now);
  }

  entry(key: string, now: number): SharedBan | undefined {
    const entry = this.#live(key, now);
    if (entry === undefined) return undefined;
    return { key, seconds: Math.max(0, entry.until - now), violations: entry.violations };
  }

  all(now: number): SharedBan[] {
    return [...this.#entries.keys()]
      .map((key) => this.entry(key, now))
      .filter((ban) => ban !== undefined);
  }

  /** How many bans are in force. */
  bans(now: number): number {
    let count = 0;
    for (const { until } of this.#entries.values()) if (until > now) count += 1;
    return count;
  }

  #live(key: string, now: number): Entry | undefined {
    const entry = this.#entries.get(key);
    return entry !== undefined && entry.expires > now ? entry : undefined;
  }

  #lookAtOne(now: number): void {
    const next = this.#sweep.next();
    if (next.done) this.#sweep = this.#entries.entries();
    else if (next.value[1].expires <= now) this.#entries.delete(next.value[0]);
  }
}
