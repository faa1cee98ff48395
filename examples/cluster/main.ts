// `npm run demo:cluster`: four processes, one limit in shared memory, a flood, and a kill in the middle.

import { setTimeout as sleep } from 'node:timers/promises';
import { RateLimiter, removeShared } from 'relay-limiter';
import { boundBar } from '../bound-bar.js';
import { runCommand } from '../demonstration.js';
import { machineSeconds } from '../fleet/messages.js';
import { interruption } from '../interruption.js';
import { type Flags, HELP, readFlags } from './flags.js';
import { watch } from './screen.js';
import { failures, most, type Outcome, type Run, summary } from './summary.js';
import { type Place, Workers } from './workers.js';

const WORKERS = 4;
/** The worker that is killed. */
const VICTIM = 1;
const CONNECTIONS = 2 * WORKERS;
const LIMIT = { rateLimit: 100, burstLimit: 200, maxPeers: 10_000 };
const POLL_MS = 50;
/** The longest time to wait until the new worker has got a message. */
const MAX_WAIT_SECONDS = 60;

const print = (text: string) => console.log(text);

async function demonstrate(flags: Flags): Promise<number> {
  const { rateLimit, burstLimit } = LIMIT;
  print(
    `${WORKERS} workers of node:cluster. One peer sends ${flags.flood} messages per second in all;`,
  );
  print(`the limit is ${rateLimit} per second and peer, with a burst of ${burstLimit}.\n`);
  const outcome: Outcome = {
    shared: await sharedRun(flags),
    apart: await run(flags, 'not shared', undefined),
    rateLimit,
    burstLimit,
  };
  print(summary(outcome));
  return failures(outcome).length === 0 ? 0 : 1;
}

async function sharedRun(flags: Flags): Promise<Run> {
  const name = `demo-cluster-${process.pid}`;
  // The demonstration checks nobody. It shows what the table contains.
  const table = new RateLimiter({ ...LIMIT, shared: name });
  try {
    return await run(flags, `shared: '${name}'`, table);
  } finally {
    removeShared(name);
    // The first call would stop a background cleanup, the second one leaves the table.
    table.close();
    table.close();
  }
}

async function run(
  { seconds, flood }: Flags,
  title: string,
  table: RateLimiter | undefined,
): Promise<Run> {
  let fail: (error: Error) => void = () => {};
  const failed = new Promise<never>((_, reject) => {
    fail = reject;
  });
  // Every wait is raced against `failed`; between two waits its rejection must not count as unhandled.
  failed.catch(() => {});
  const workers = new Workers({ ...LIMIT, shared: table?.shared?.name }, fail);
  let phase = 'all workers run';
  let unwatch: (() => void) | undefined;
  const wait = async (isOver: () => boolean) => {
    while (!isOver()) {
      await Promise.race([sleep(POLL_MS, undefined, { signal: interruption }), failed]);
    }
  };
  try {
    const port = await Promise.race([workers.start(WORKERS), failed]);
    const start = machineSeconds();
    const age = () => machineSeconds() - start;
    unwatch = watch(
      process.stdout,
      () => `${title}; ${age().toFixed(0).padStart(2)} s: ${phase}`,
      workers.places,
      table,
    );
    workers.flood({ port, connections: CONNECTIONS, rate: flood });
    await wait(() => age() > seconds / 2);
    phase = `worker ${VICTIM + 1} is killed with SIGKILL`;
    await Promise.race([workers.kill(VICTIM), failed]);
    phase = `worker ${VICTIM + 1} was killed with SIGKILL and replaced`;
    const { admitted, refused } = workers.places[VICTIM] as Place;
    const decided = () => {
      const place = workers.places[VICTIM] as Place;
      return place.admitted + place.refused - admitted - refused;
    };
    await wait(() => age() > seconds && (decided() > 0 || age() > seconds + MAX_WAIT_SECONDS));
    await Promise.race([workers.stop(), failed]);
    const sum = (field: 'admitted' | 'refused') =>
      workers.places.reduce((total, place) => total + place[field], 0);
    const result = {
      admitted: table?.getStats().verdicts.allow ?? sum('admitted'),
      refused: table?.getStats().verdicts.delay ?? sum('refused'),
      admissions: [...workers.admissions],
      seconds: age(),
    };
    unwatch();
    unwatch = undefined;
    print(`${boundBar(result.admitted, most(result, LIMIT))}\n`);
    return result;
  } finally {
    unwatch?.();
    await workers.stop();
  }
}

process.exitCode = await runCommand('demo:cluster', HELP, readFlags, demonstrate);
