// A worker process of the cases with one table for many processes. On a message it checks, and it replies with the time
// that took.

import cluster from 'node:cluster';
import { RateLimiterCluster, RateLimiterRedis } from 'rate-limiter-flexible';
import { createClient } from 'redis';
import { type LimiterError, RateLimiter } from 'relay-limiter';
import { Peers } from '../keys.js';
import {
  BURST,
  CLUSTER,
  type Order,
  RATE,
  REDIS,
  STALLED_SECONDS,
  VISITS,
  type Work,
} from './machine-orders.js';
import { type LaterCheck, laterChecks } from './timed-checks.js';

/** Concurrent checks of a limiter that answers later. */
const AT_ONCE = 100;

process.on('disconnect', () => process.exit());
const say = (answer: object) => process.send?.(answer, () => {});

const options = JSON.parse(process.argv[2] ?? '{}');
const { limiter: kind, peers, shared, maxPeers = Math.max(peers, 1000) } = options;
const { sample } = new Peers(peers);
const limiter =
  shared === undefined
    ? undefined
    : new RateLimiter({
        rateLimit: RATE,
        burstLimit: BURST,
        maxPeers,
        shared,
      });
const later = limiter === undefined ? await laterOf(kind) : undefined;

process.on('message', async (order: Order) => {
  if (typeof order !== 'object') return;
  try {
    if ('keepBusy' in order) return keepBusy(order.keepBusy);
    if ('rest' in order) return rest();
    if (!('checks' in order)) return;
    const before = performance.now();
    if (later === undefined) checkAll(order.checks);
    else await laterChecks(later, sample, order.checks, AT_ONCE);
    say({ done: performance.now() - before });
  } catch (error) {
    say({ failed: error instanceof Error ? error.message : String(error) });
  }
});
say({ ready: true });

/** Each worker begins elsewhere. */
let next = Math.floor(Math.random() * sample.length);

function checkAll(checks: number): void {
  let wrong = 0;
  for (let n = 0; n < checks; n += 1) {
    const [action, seconds] = (limiter as RateLimiter).check(sample[next] as string);
    // A worker that gets no processor time in the middle of a check makes the others refuse for a moment.
    if (action !== 'allow' && seconds !== STALLED_SECONDS) wrong += 1;
    next = next + 1 === sample.length ? 0 : next + 1;
  }
  if (wrong > 0) throw new Error(`${wrong} answers were not as they should be`);
}

async function laterOf(kind: string): Promise<LaterCheck> {
  const limit = { points: BURST, duration: 86_400, keyPrefix: 'machine' };
  if (kind === CLUSTER) {
    if (!cluster.isWorker) throw new Error('it is no worker of node:cluster');
    const flexible = new RateLimiterCluster({ ...limit, timeoutMs: 60_000 });
    return (key) => isAllowed(flexible.consume(key));
  }
  if (kind !== REDIS) throw new Error(`no such limiter: ${kind}`);
  const client = createClient({ url: process.env['BENCH_REDIS_URL'] ?? '' });
  await client.connect();
  const flexible = new RateLimiterRedis({ ...limit, storeClient: client, useRedisPackage: true });
  return (key) => isAllowed(flexible.consume(key));
}

/** The other package rejects what it does not allow. */
function isAllowed(answer: Promise<unknown>): Promise<boolean> {
  return answer.then(
    () => true,
    () => false,
  );
}

let work: Work | undefined;

function rest(): void {
  work = undefined;
  say({ done: 0 });
}

/** Visits the table again and again, and looks for messages now and then. */
function keepBusy(next: Work): void {
  work = next;
  say({ busy: true });
  setImmediate(visit);
}

function visit(): void {
  if (work === undefined) return;
  try {
    for (let n = 0; n < 100; n += 1) VISITS[work](limiter as RateLimiter);
  } catch (error) {
    // The measured process got no processor time in the middle of a check.
    if ((error as LimiterError).code !== 'ERR_LIMITER_SHARED') throw error;
  }
  setImmediate(visit);
}
