// The connections that wait for a bucket, first come, first served; one queue for each bucket of a limiter. Only the
// first of a queue checks the limiter. If all checked at the same moment, the limiter would refuse all but one, and each
// refusal is a violation.

import type { AnyLimiter } from '../limiters/verdict.js';
import { KeyMap } from '../tables/key-map.js';

export interface BucketWaiter {
  /** The waiter is the first of its queue. May be called more than once. */
  becomeFirst(): void;
}

export class BucketQueue {
  readonly #queues = new KeyMap<Set<BucketWaiter>>();

  /** Whether no connection waits for any bucket. */
  get isEmpty(): boolean {
    return this.#queues.size === 0;
  }

  hasWaiters(key: string): boolean {
    return this.#queues.has(key);
  }

  /** True if the waiter is the first of the queue; if not, its `becomeFirst` is called later. */
  join(key: string, waiter: BucketWaiter): boolean {
    let queue = this.#queues.get(key);
    if (queue === undefined) {
      queue = new Set();
      this.#queues.set(key, queue);
    }
    queue.add(waiter);
    return firstOf(queue) === waiter;
  }

  leave(key: string, waiter: BucketWaiter): void {
    const queue = this.#queues.get(key);
    if (!queue?.delete(waiter)) return;
    if (queue.size === 0) this.#queues.delete(key);
    // A direct call would nest: each waiter that leaves calls the next one, and a long queue overflows the stack.
    else queueMicrotask(() => firstOf(queue)?.becomeFirst());
  }
}

const QUEUES = new WeakMap<AnyLimiter, BucketQueue>();

/** All guards with the same limiter share its queue. */
export function bucketQueueOf(limiter: AnyLimiter): BucketQueue {
  const queue = QUEUES.get(limiter) ?? new BucketQueue();
  QUEUES.set(limiter, queue);
  return queue;
}

function firstOf(queue: Set<BucketWaiter>): BucketWaiter | undefined {
  return queue.values().next().value;
}
