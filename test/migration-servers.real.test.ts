// The pairs of docs/migration-servers.md that need processes or a store. A quota per day does not refill during a test, so both
// programs admit exactly the quota, however slow the machine is.

import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { RateLimiterRedis } from 'rate-limiter-flexible';
import { SharedRateLimiter, type SharedRateLimiterOptions } from 'relay-limiter/redis';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Store } from '../out/examples/fleet/server.js';
import {
  anyStore,
  NO_DEADLINE,
  NO_STORE,
  nodeRedis,
  PREFIX,
  type TestClient,
} from './redis/support/store.js';
import { TESTS_NATIVE } from './support/limiters.js';
import { type Pair, pairsOf, runProgram } from './support/migration.js';
import { ROOT } from './support/processes.js';

const PAIRS = pairsOf('docs/migration-servers.md');
const QUOTA = 10;
const execute = promisify(execFile);

const pair = (name: string) => PAIRS.find((each) => each.name === name) as Pair;

/** The program with another text in one place. */
function changed(program: string, text: string, by: string): string {
  expect(program.split(text)).toHaveLength(2);
  return program.replace(text, by);
}

describe('the migration guide for workers', () => {
  const folder = mkdtempSync(join(ROOT, 'out', 'migration-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  async function run(name: string, program: string): Promise<unknown> {
    const worker = pathToFileURL(join(ROOT, 'test/support/migration-worker.mjs')).href;
    const file = join(folder, `${name}.mjs`);
    writeFileSync(file, `import { serve } from '${worker}';\n${program}`);
    const { stdout } = await execute(process.execPath, [file], { timeout: 240_000 });
    return JSON.parse(stdout);
  }

  it.skipIf(!TESTS_NATIVE)('admits the same with both packages', async () => {
    const { before, after } = pair('Workers of one machine');
    // It gives up after five seconds otherwise.
    const patient = changed(before.code, 'points: 10,', 'points: 10, timeoutMs: 240_000,');
    const table = JSON.stringify(join(folder, 'table'));
    const apart = changed(after.code, "shared: 'exports'", `shared: ${table}`);
    const expected = { workers: 2, allowed: QUOTA };
    expect(await run('before', patient)).toEqual(expected);
    expect(await run('after', apart)).toEqual(expected);
  });
});

describe.skipIf(NO_STORE !== false)('the migration guide for Redis', () => {
  let store: Store;
  let redis: TestClient;
  beforeAll(async () => {
    store = await anyStore();
    redis = await nodeRedis(store.url);
  });
  afterAll(async () => {
    redis?.close();
    await store?.close();
  });

  const modules: Record<string, object> = {
    'rate-limiter-flexible': {
      RateLimiterRedis: class extends RateLimiterRedis {
        constructor(options: ConstructorParameters<typeof RateLimiterRedis>[0]) {
          super({ ...options, keyPrefix: `${PREFIX}-flexible` });
        }
      },
    },
    'relay-limiter/redis': {
      SharedRateLimiter: class extends SharedRateLimiter {
        constructor(options: SharedRateLimiterOptions) {
          super({ ...options, ...NO_DEADLINE, prefix: `${PREFIX}-migration` });
        }
      },
    },
  };

  interface Program {
    isAllowed(peer: string): Promise<boolean>;
    readonly limiter: { close?(): Promise<void> };
  }

  it.each(['before', 'after'] as const)('admits the quota %s the migration', async (which) => {
    const { code } = pair('Redis')[which];
    const given = { load: async (name: string) => modules[name], client: redis.client };
    // Two programs stand for two processes.
    const start = () => runProgram(code, given, '{ isAllowed, limiter }') as Promise<Program>;
    const nodes = [await start(), await start()];
    let allowed = 0;
    for (let n = 0; n < 2 * QUOTA; n += 1) {
      allowed += Number(await nodes[n % 2]?.isAllowed('peer'));
    }
    expect(allowed).toBe(QUOTA);
    for (const { limiter } of nodes) await limiter.close?.();
  });
});
