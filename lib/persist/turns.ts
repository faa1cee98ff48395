// Steps of long work, between which everybody else has their turn.

import { setImmediate } from 'node:timers/promises';

/** The items of a synchronous iteration, one in each turn of the event loop. */
export async function* takeTurns<Item>(items: Iterable<Item>): AsyncGenerator<Item> {
  for (const item of items) {
    yield item;
    await setImmediate();
  }
}
