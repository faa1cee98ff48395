// Lets the event loop run between the steps of long work.

import { setImmediate } from 'node:timers/promises';

/** Yields the items of a synchronous iterable, one per turn of the event loop. */
export async function* yieldBetween<Item>(items: Iterable<Item>): AsyncGenerator<Item> {
  for (const item of items) {
    yield item;
    await setImmediate();
  }
}
