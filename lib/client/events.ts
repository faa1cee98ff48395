// The events of a limiter, and those who listen to them.

import { callSafely } from '../common/callbacks.js';

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

export class EventListeners {
  readonly #listeners = new Map<LimiterEvent, Set<Listener>>();

  /** Returns a function that removes the listener. */
  add(name: LimiterEvent, listener: Listener): () => void {
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
}

export const EVENTS: readonly unknown[] = ['waiting', 'refused', 'blocked', 'resumed', 'idle'];
