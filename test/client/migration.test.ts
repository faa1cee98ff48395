// The pairs of docs/migration.md: both programs of each pair run, in virtual time, and what they send is compared.

import { afterAll, afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { pairsOf, runProgram } from '../support/migration.js';

const PAIRS = pairsOf('docs/migration.md');
const IDS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
const JOB_MS = 50;

interface Outcome {
  /** The ids in the order in which their jobs began, and the times in milliseconds. */
  readonly order: number[];
  readonly startedAt: number[];
  readonly mostAtOnce: number;
}

const MODULES: Record<string, () => Promise<object>> = {
  'axios-rate-limit': () => import('axios-rate-limit'),
  axios: () => import('axios'),
  bottleneck: () => import('bottleneck'),
  limiter: () => import('limiter'),
  'p-limit': () => import('p-limit'),
  'p-queue': () => import('p-queue'),
  'p-throttle': () => import('p-throttle'),
  'relay-limiter/client': () => import('../../lib/client/index.js'),
};

async function run(program: string): Promise<Outcome> {
  const order: number[] = [];
  const startedAt: number[] = [];
  let [running, mostAtOnce] = [0, 0];
  const start = Date.now();
  const job = async (id: number) => {
    order.push(id);
    startedAt.push(Date.now() - start);
    running += 1;
    mostAtOnce = Math.max(mostAtOnce, running);
    await new Promise((resolve) => setTimeout(resolve, JOB_MS));
    running -= 1;
  };
  const fetch = async (input: string | URL | Request) => {
    await job(Number(/\d+$/.exec(input instanceof Request ? input.url : String(input))?.[0]));
    return new Response('done');
  };
  const load = async (name: string) => {
    const loaded = (await MODULES[name]?.()) as Record<string, unknown>;
    if (name !== 'axios') return loaded;
    // The program's requests are jobs, whichever adapter it takes.
    const { default: axios } = loaded as typeof import('axios');
    const create = (options?: object) =>
      axios.create({ adapter: 'fetch', env: { fetch }, ...options });
    return { default: { create } };
  };
  let isDone = false;
  const done = runProgram(program, { load, job, ids: IDS, fetch }).finally(() => {
    isDone = true;
  });
  // The first steps import modules, which takes no virtual time.
  await vi.dynamicImportSettled();
  for (let step = 0; step < 2000 && !(isDone && running === 0); step += 1) {
    await vi.advanceTimersByTimeAsync(10);
  }
  await done;
  return { order, startedAt, mostAtOnce };
}

/** The largest number of jobs that began in any interval so long. */
function mostIn(milliseconds: number, { startedAt }: Outcome): number {
  return Math.max(
    ...startedAt.map((from) => {
      return startedAt.filter((at) => at >= from && at < from + milliseconds).length;
    }),
  );
}

interface Expected {
  /** At most so many jobs begin in any interval so long. */
  readonly quota?: number;
  readonly milliseconds?: number;
  readonly mostAtOnce?: number;
  /** The same of the other package, where it is not exact. */
  readonly othersQuota?: number;
  /** Whether both limit by the same rule, so that both take about as long. Default: true. */
  readonly isAsFast?: boolean;
}

const EXPECTED: Record<string, Expected> = {
  // Bottleneck begins a job a millisecond or two later than it counts.
  'A pause between requests, and a number at a time': {
    ...{ quota: 1, milliseconds: 200, othersQuota: 2, mostAtOnce: 3 },
  },
  // It refills by a timer, so it exceeds the quota in intervals that begin in between.
  'A reservoir': { quota: 10, milliseconds: 1000, othersQuota: 12 },
  'Priorities and weights': { mostAtOnce: 2, isAsFast: false },
  'A queue with an end': { mostAtOnce: 1 },
  'A limiter for each key': { quota: 2, milliseconds: 200, othersQuota: 4 },
  'A limiter within another one': { quota: 1, milliseconds: 100, othersQuota: 2, mostAtOnce: 1 },
  'p-throttle': { quota: 2, milliseconds: 1000 },
  'p-queue': { quota: 4, milliseconds: 1000, mostAtOnce: 2 },
  'p-limit': { mostAtOnce: 2 },
  limiter: { quota: 3, milliseconds: 1000 },
  'axios-rate-limit': { quota: 2, milliseconds: 1000 },
};

describe('the migration guide', () => {
  beforeEach(() => {
    vi.useFakeTimers();
  });
  afterEach(() => {
    vi.useRealTimers();
  });
  afterAll(() => {
    vi.restoreAllMocks();
  });

  it('has a test for every pair', () => {
    expect(PAIRS.map(({ name }) => name)).toEqual(Object.keys(EXPECTED));
  });

  it.each(PAIRS)('sends the same with both packages: $name', async ({ name, before, after }) => {
    const {
      quota = Infinity,
      milliseconds = 1,
      mostAtOnce = Infinity,
      ...expected
    } = EXPECTED[name] as Expected;
    const [other, own] = [await run(before.code), await run(after.code)];
    expect(mostIn(milliseconds, own)).toBeLessThanOrEqual(quota);
    expect(mostIn(milliseconds, other)).toBeLessThanOrEqual(expected.othersQuota ?? quota);
    expect(own.mostAtOnce).toBeLessThanOrEqual(mostAtOnce);
    expect(other.mostAtOnce).toBeLessThanOrEqual(mostAtOnce);
    expect(own.order).toEqual(other.order);
    const [lastOwn, lastOther] = [own, other].map(({ startedAt }) => startedAt.at(-1) as number);
    if (expected.isAsFast ?? true) expect(lastOwn).toBeLessThanOrEqual(1.02 * (lastOther ?? 0));
  });
});
