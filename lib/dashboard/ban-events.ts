// The last bans as they began, with their times, from the channel of bans. It is told of bans by checks
// and by hand; of bans that a snapshot restores it is not.

import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { BAN_CHANNEL, type BanMessage } from '../limiters/ban-channel.js';
import { sentKey } from './keys.js';
import type { BanEvent } from './messages.js';

/** Bans that are kept. */
export const MOST_EVENTS = 20;

export class BanEvents {
  readonly #places: ReadonlyMap<object, number>;
  /** Newest first. */
  #latest: readonly BanEvent[] = [];
  #count = 0;
  readonly #hear = (message: unknown) => this.#add(message as BanMessage);

  /** Hears of the bans of these limiters until it is closed. */
  constructor(limiters: readonly object[]) {
    this.#places = new Map(limiters.map((limiter, place) => [limiter, place]));
    subscribe(BAN_CHANNEL, this.#hear);
  }

  /** Newest first. */
  get latest(): readonly BanEvent[] {
    return this.#latest;
  }

  close(): void {
    unsubscribe(BAN_CHANNEL, this.#hear);
  }

  #add({ limiter, key, violations, banDuration }: BanMessage): void {
    const place = this.#places.get(limiter);
    if (place === undefined) return;
    this.#count += 1;
    const event: BanEvent = {
      ...sentKey(key),
      number: this.#count,
      limiter: place,
      violations,
      at: Date.now(),
      seconds: banDuration,
    };
    this.#latest = [event, ...this.#latest.slice(0, MOST_EVENTS - 1)];
  }
}
