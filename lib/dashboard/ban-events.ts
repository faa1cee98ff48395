// Keeps the latest bans with their times. It receives them from the diagnostics channel of bans, which reports bans by
// checks and by hand, but not bans that a snapshot restores.

import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { BAN_CHANNEL, type BanMessage } from '../limiters/ban-channel.js';
import { sentKey } from './keys.js';
import type { BanEvent } from './messages.js';

/** The maximum number of bans that are kept. */
export const MAX_EVENTS = 20;

export class BanEvents {
  readonly #indexes: ReadonlyMap<object, number>;
  /** Newest first. */
  #latest: readonly BanEvent[] = [];
  #count = 0;
  readonly #onBan = (message: unknown) => this.#add(message as BanMessage);

  /** Records the bans of these limiters until `close` is called. */
  constructor(limiters: readonly object[]) {
    this.#indexes = new Map(limiters.map((limiter, index) => [limiter, index]));
    subscribe(BAN_CHANNEL, this.#onBan);
  }

  /** Newest first. */
  get latest(): readonly BanEvent[] {
    return this.#latest;
  }

  close(): void {
    unsubscribe(BAN_CHANNEL, this.#onBan);
  }

  #add({ limiter, key, violations, banDuration }: BanMessage): void {
    const index = this.#indexes.get(limiter);
    if (index === undefined) return;
    this.#count += 1;
    const event: BanEvent = {
      ...sentKey(key),
      number: this.#count,
      limiter: index,
      violations,
      at: Date.now(),
      seconds: banDuration,
    };
    this.#latest = [event, ...this.#latest.slice(0, MAX_EVENTS - 1)];
  }
}
