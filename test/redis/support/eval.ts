// Scripts on a real server whose time is that of a test. A key expires by the server's own time, which goes on while the
// test's time stands still: what a test finds in a key must not depend on how long the test takes.

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

/**
 * Runs a script of one key, and returns the time to live that it gave to the key, in milliseconds, before any of it can
 * pass; a negative number, as PTTL does, if the key does not exist or does not expire.
 */
export async function ttlAfterEval(
  client: Client,
  script: string,
  key: string,
  args: string[],
): Promise<number> {
  const transaction = client
    .multi()
    .eval(script, { keys: [key], arguments: args })
    .pTTL(key);
  const [, ttl] = await transaction.exec();
  return Number(ttl);
}
