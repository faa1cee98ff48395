// The connections that wait for a bucket of a limiter, first come, first served; one queue for each bucket. Only the
// first of a queue checks the limiter. If all checked at the same moment, the limiter would refuse all but one, and each
// refusal is a violation.

import type { AsyncLimiter } from '../limiters/async-limiter.js';
import { onChange } from '../limiters/changes.js';
import type { AnyLimiter } from '../limiters/verdict.js';
import type { AnyRules } from '../rules/any-rules.js';
import { KeyMap } from '../tables/key-map.js';

export interface BucketWaiter {
  /** The waiter is the first of its queue. May be called more than once. */
  becomeFirst(): void;
  /** The limiter has changed, so a bucket may be full sooner or later. */
  limiterChanged(): void;
}

/** A bucket that connections may wait for. */
export interface Bucket {
  readonly queues: BucketQueues;
  /** The rule of a RuleLimiter; '' of another limiter, which has one bucket for each key, and for no rule. */
  readonly rule: string;
  readonly key: string;
}

export class BucketQueues {
  /** By rule and key. */
  readonly #queues = new Map<string, KeyMap<Set<BucketWaiter>>>();

  /** Whether no connection waits for any bucket. */
  get isEmpty(): boolean {
    return this.#queues.size === 0;
  }

  /** The rules for whose buckets connections wait. */
  get rules(): Iterable<string> {
    return this.#queues.keys();
  }

  hasWaiters(rule: string, key: string): boolean {
    return this.#queues.get(rule)?.has(key) ?? false;
  }

  /** True if the waiter is the first of the queue; if not, its `becomeFirst` is called later. */
  join(rule: string, key: string, waiter: BucketWaiter): boolean {
    const keys = this.#queues.get(rule) ?? new KeyMap<Set<BucketWaiter>>();
    this.#queues.set(rule, keys);
    const queue = keys.get(key) ?? new Set();
    keys.set(key, queue);
    queue.add(waiter);
    return firstOf(queue) === waiter;
  }

  leave(rule: string, key: string, waiter: BucketWaiter): void {
    const keys = this.#queues.get(rule);
    const queue = keys?.get(key);
    if (!queue?.delete(waiter)) return;
    if (queue.size === 0) {
      keys?.delete(key);
      if (keys?.size === 0) this.#queues.delete(rule);
    }
    // A direct call would nest: each waiter that leaves calls the next one, and a long queue overflows the stack.
    else queueMicrotask(() => firstOf(queue)?.becomeFirst());
  }

  /** Tells the first waiter of each queue. The others follow when it leaves. */
  limiterChanged(): void {
    const queues = [...this.#queues.values()].flatMap((keys) => [...keys.values()]);
    for (const queue of queues) firstOf(queue)?.limiterChanged();
  }
}

type Limiter = AnyLimiter | AsyncLimiter | AnyRules;

const QUEUES = new WeakMap<Limiter, BucketQueues>();

/** All guards with the same limiter share its queues. */
export function bucketQueuesOf(limiter: Limiter): BucketQueues {
  const known = QUEUES.get(limiter);
  if (known !== undefined) return known;
  const queues = new BucketQueues();
  QUEUES.set(limiter, queues);
  // Not within the call that changes the limiter: it must not call the listeners of messages.
  onChange(limiter, () => queueMicrotask(() => queues.limiterChanged()));
  return queues;
}

function firstOf(queue: Set<BucketWaiter>): BucketWaiter | undefined {
  return queue.values().next().value;
}
