// Keeps the latest bans with their times. It receives them from the diagnostics channel of bans, which reports bans by
// checks and by hand, but not bans that a snapshot restores.

import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { BAN_CHANNEL, type BanMessage } from '../limiters/ban-channel.js';
import { sentKey } from './keys.js';
import { type BanEvent, encodeSeconds } from './messages.js';
import type { Shown } from './shown.js';

/** The maximum number of bans that are kept. */
export const MAX_EVENTS = 20;

export class BanEvents {
  readonly #shown: readonly Shown[];
  /** Newest first. */
  #latest: readonly BanEvent[] = [];
  #count = 0;
  readonly #onBan = (message: unknown) => this.#add(message as BanMessage);

  /** Records the bans of these limiters until `close` is called. */
  constructor(shown: readonly Shown[]) {
    this.#shown = shown;
    subscribe(BAN_CHANNEL, this.#onBan);
  }

  /** Newest first. */
  get latest(): readonly BanEvent[] {
    return this.#latest;
  }

  close(): void {
    unsubscribe(BAN_CHANNEL, this.#onBan);
  }

  #add({ limiter, scope, key, violations, banDuration }: BanMessage): void {
    const index = this.#shown.findIndex(
      (shown) => 'owner' in shown && shown.owner === limiter && shown.scope === scope,
    );
    if (index === -1) return;
    this.#count += 1;
    const event: BanEvent = {
      ...sentKey(key),
      number: this.#count,
      limiter: index,
      violations,
      at: Date.now(),
      seconds: encodeSeconds(banDuration),
    };
    this.#latest = [event, ...this.#latest.slice(0, MAX_EVENTS - 1)];
  }
}
