// Scripts on a real server whose time is that of a test. A key expires by the server's own time, which goes on while the
// test's time stands still: what a test finds in a key must not depend on how long the test takes.

import { expect } from 'vitest';
import type { storeOfTests } from './store.js';

type Client = ReturnType<typeof storeOfTests>['client'];

/** Runs a script, and keeps its keys from expiring before any time can pass. Returns the reply. */
export async function evalAndPersist(
  client: Client,
  script: string,
  keys: string[],
  args: string[],
): Promise<unknown> {
  const transaction = client.multi().eval(script, { keys, arguments: args });
  for (const key of keys) transaction.persist(key);
  const [reply] = await transaction.exec();
  return reply;
}

/** Runs a script of one key, and expects the time to live that it gives to the key, in milliseconds. */
export async function expectTtl(
  client: Client,
  script: string,
  key: string,
  args: string[],
  expected: number,
): Promise<void> {
  const transaction = client
    .multi()
    .time()
    .eval(script, { keys: [key], arguments: args });
  const [before, , ttl, after] = await transaction.pTTL(key).time().exec();
  // The server's clock goes on within the transaction.
  const passed = millisecondsOf(after) - millisecondsOf(before) + 1;
  expect(Number(ttl)).toBeLessThanOrEqual(expected);
  expect(Number(ttl) + passed).toBeGreaterThanOrEqual(expected);
}

/** A reply of TIME. */
function millisecondsOf(time: unknown): number {
  const [seconds, micros] = (time as unknown[]).map(Number) as [number, number];
  return seconds * 1000 + micros / 1000;
}
