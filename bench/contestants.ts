// Who is measured: each does the same work on the same keys, and proves it before its timing.

import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { RateLimiter } from 'relay-limiter';

/** One check by key; true if allowed. The floor, which limits nothing, is not asked. */
export type Check = (key: string) => boolean;

export interface Contestant {
  name: string;
  create(): Check;
  limits: boolean;
}

// So much that timing never empties a bucket, and so little that the proof can.
const BURST = 1e9;
const RATE = 1;

const floorAddon: { length(key: string): number } = createRequire(import.meta.url)(
  fileURLToPath(new URL('../../bench/floor/build/Release/floor.node', import.meta.url)),
);

/** What people write themselves, and the shape of the reference: objects in a Map. */
function plainMap(burst: number): Check {
  const buckets = new Map<string, { tokens: number; lastRefill: number }>();
  const violations = new Map<string, number>();
  return (key) => {
    const now = performance.now() / 1000;
    let bucket = buckets.get(key);
    if (bucket === undefined) {
      bucket = { tokens: burst, lastRefill: now };
      buckets.set(key, bucket);
    }
    bucket.tokens = Math.min(burst, bucket.tokens + (now - bucket.lastRefill) * RATE);
    bucket.lastRefill = now;
    if (bucket.tokens >= 1) {
      bucket.tokens -= 1;
      return true;
    }
    violations.set(key, (violations.get(key) ?? 0) + 1);
    return false;
  };
}

function ours(engine: 'native' | 'js', burst: number): Check {
  const limiter = new RateLimiter({
    engine,
    rateLimit: RATE,
    burstLimit: burst,
    maxPeers: Infinity,
  });
  return (key) => limiter.check(key)[0] === 'allow';
}

const MAKERS: Record<string, (burst: number) => Check> = {
  'plain Map': plainMap,
  native: (burst) => ours('native', burst),
  TypeScript: (burst) => ours('js', burst),
};

export const CONTESTANTS: Contestant[] = [
  { name: 'crossing floor', limits: false, create: () => (key) => floorAddon.length(key) > 0 },
  ...Object.entries(MAKERS).map(([name, make]) => ({
    name,
    limits: true,
    create: () => {
      prove(name, make(2));
      return make(BURST);
    },
  })),
];

/** A limiter that is fast because it does not limit would win. */
function prove(name: string, check: Check): void {
  const answers = ['a', 'a', 'a', 'b'].map(check);
  if (answers.join() !== 'true,true,false,true') throw new Error(`${name} does not limit`);
}
