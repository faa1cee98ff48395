// The kinds of tables that limiters have, for the suites of their contract: one of each engine, and a shared one.

import {
  DirectConnectionRateLimiter,
  type EngineName,
  type LimiterOptions,
  OrderbookRateLimiter,
  RateLimiter,
  removeShared,
} from 'relay-limiter';
import { onTestFinished } from 'vitest';
import { sharedPathOf } from '../../dist/engine/shared-paths.js';
import { ENGINES, TESTS_NATIVE } from './limiters.js';

const CLASSES = { RateLimiter, OrderbookRateLimiter, DirectConnectionRateLimiter };

export interface Table extends Readonly<typeof CLASSES> {
  readonly name: string;
  readonly engine: EngineName;
  readonly isShared: boolean;
  /** The default of `maxPeers`. */
  readonly maxPeers: number;
}

/** Large enough for every suite. The file of the real default takes more than a hundred megabytes. */
const SHARED_PEERS = 10_000;

const OWN = ENGINES.map(
  (engine): Table => ({
    ...{ name: `${engine} engine`, engine, isShared: false, maxPeers: 1_000_000 },
    ...CLASSES,
  }),
);

const SHARED: Table = {
  ...{ name: 'shared table', engine: 'native', isShared: true, maxPeers: SHARED_PEERS },
  RateLimiter: sharing(RateLimiter),
  OrderbookRateLimiter: sharing(OrderbookRateLimiter),
  DirectConnectionRateLimiter: sharing(DirectConnectionRateLimiter),
};

export const TABLES: readonly Table[] = TESTS_NATIVE ? [...OWN, SHARED] : OWN;

let files = 0;

/**
 * The class, but each limiter has a shared table of its own until the test ends. A shared table has the machine's clock:
 * the test's clock replaces what the limiter passes to the engine. Where suites differ: of a clock that steps back it
 * keeps the latest time, and it restores digests only under its own secret, or while it is empty.
 */
function sharing<Class extends (typeof CLASSES)[keyof typeof CLASSES]>(Limiter: Class): Class {
  return new Proxy(Limiter, {
    construct(target, [options]: [LimiterOptions?]) {
      const { clock, ...rest } = options ?? {};
      files += 1;
      const shared = `test-tables-${process.pid}-${files}`;
      const limiter = Reflect.construct(target, [{ maxPeers: SHARED_PEERS, ...rest, shared }]);
      onTestFinished(() => {
        limiter.close();
        limiter.close();
        removeShared(sharedPathOf(shared));
      });
      if (clock === undefined) return limiter;
      const clocked = new Limiter({ clock, engine: 'js' }) as unknown as { now(): number };
      limiter.now = () => clocked.now();
      return limiter;
    },
  });
}
