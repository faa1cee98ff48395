// Who waits for which bucket: one queue for each, so that connections that share a bucket take turns. Only
// the first asks; if all did at the same moment, all but one would be refused, and refusals are violations.

import type { AnyLimiter } from '../limiters/verdict.js';
import { KeyMap } from '../tables/key-map.js';

export interface Waiter {
  /** It is the first now. May be told again. */
  turn(): void;
}

/** The queues of one limiter. */
export class Turns {
  readonly #queues = new KeyMap<Set<Waiter>>();

  /** Whether nobody waits for any bucket, as nearly always. */
  get isIdle(): boolean {
    return this.#queues.size === 0;
  }

  isTaken(key: string): boolean {
    return this.#queues.has(key);
  }

  /** True if it is the first; else it will be told. */
  join(key: string, waiter: Waiter): boolean {
    let queue = this.#queues.get(key);
    if (queue === undefined) {
      queue = new Set();
      this.#queues.set(key, queue);
    }
    queue.add(waiter);
    return firstOf(queue) === waiter;
  }

  leave(key: string, waiter: Waiter): void {
    const queue = this.#queues.get(key);
    if (!queue?.delete(waiter)) return;
    if (queue.size === 0) this.#queues.delete(key);
    // Not at once: each would leave in the turn of the one before, and very many overflow the stack.
    else queueMicrotask(() => firstOf(queue)?.turn());
  }
}

const TURNS = new WeakMap<AnyLimiter, Turns>();

/** The same for each guard that has this limiter. */
export function turnsOf(limiter: AnyLimiter): Turns {
  const turns = TURNS.get(limiter) ?? new Turns();
  TURNS.set(limiter, turns);
  return turns;
}

function firstOf(queue: Set<Waiter>): Waiter | undefined {
  return queue.values().next().value;
}
