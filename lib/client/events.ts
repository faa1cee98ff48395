// The events of a limiter: its listeners, and which events a response causes.

import { callSafely } from '../common/callbacks.js';
import { invalidValue } from '../common/errors.js';
import type { RateLimitInfo } from '../headers/types.js';
import { requireFunction } from './options.js';
import { secondsUntil } from './time.js';

/** The events of a `PolicyLimiter` and what their listeners receive. */
export interface LimiterEvents {
  /** A call has to wait. `waiting`: the number of calls that wait, this one included. */
  waiting: { readonly waiting: number };
  /** The upstream has refused a request. `retryAfterSeconds`: what the response said, null if nothing. */
  refused: { readonly status: number | undefined; readonly retryAfterSeconds: number | null };
  /** No request is sent for `seconds`, because of a refusal or `Retry-After`. Each longer block is an event. */
  blocked: { readonly seconds: number };
  /** The first good answer after a block. */
  resumed: Readonly<Record<never, never>>;
  /** No call waits and no lease is open any more. */
  idle: Readonly<Record<never, never>>;
}

/** The name of an event of a `PolicyLimiter`. */
export type LimiterEvent = keyof LimiterEvents;

type Listener = (event: never) => void;

const EVENTS: readonly unknown[] = ['waiting', 'refused', 'blocked', 'resumed', 'idle'];

export class EventListeners {
  readonly #listeners = new Map<LimiterEvent, Set<Listener>>();
  /** The end of the last block that was an event; -Infinity since a good answer. */
  #blockedUntil = -Infinity;

  /**
   * Returns a function that removes the listener.
   * @throws ERR_LIMITER_OPTION for an unknown event, or a listener that is not a function
   */
  add(name: LimiterEvent, listener: Listener): () => void {
    if (!EVENTS.includes(name)) {
      throw invalidValue('ERR_LIMITER_OPTION', 'an event', name, `one of ${EVENTS.join(', ')}`);
    }
    requireFunction(listener, 'listener');
    const own = this.#listeners.get(name) ?? new Set();
    this.#listeners.set(name, own.add(listener));
    return () => {
      own.delete(listener);
    };
  }

  /** What a listener throws becomes an uncaught exception. */
  emit<E extends LimiterEvent>(name: E, event: LimiterEvents[E]): void {
    for (const listener of this.#listeners.get(name) ?? []) {
      callSafely(() => listener(event as never));
    }
  }

  /** Emits what a response has changed. `blockedUntil` is the end of the upstream's block. */
  onResponse(
    { isRefused, info }: { readonly isRefused: boolean; readonly info: RateLimitInfo },
    status: number | undefined,
    blockedUntil: number,
    now: number,
  ): void {
    if (isRefused) this.emit('refused', { status, retryAfterSeconds: info.retryAfterSeconds });
    if (blockedUntil > now && blockedUntil > this.#blockedUntil) {
      this.#blockedUntil = blockedUntil;
      this.emit('blocked', { seconds: secondsUntil(blockedUntil, now) });
    } else if (this.#blockedUntil > -Infinity && blockedUntil <= now && !isRefused) {
      this.#blockedUntil = -Infinity;
      this.emit('resumed', {});
    }
  }
}
