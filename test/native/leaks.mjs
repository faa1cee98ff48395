// What LeakSanitizer watches: every call of every limiter of the native engine and of its tables of leases,
// those that fail among them; limiters that are full, that are collected, that live until the end, and that
// die with their thread. .ci/run builds the addon for it.
//
// At the end of a process Node-API lets go of every object, and the addon of all it holds; what is left
// then is a leak. Of Node itself the sanitizer reports nothing.

import { strictEqual, throws } from 'node:assert/strict';
import { isMainThread, parentPort, Worker } from 'node:worker_threads';
import { DirectConnectionRateLimiter, OrderbookRateLimiter, RateLimiter } from 'relay-limiter';
import { selectEngine } from '../../dist/engine/select.js';

const THREADS = 6;
const ROUNDS = 10;
const PEERS = 1500;

let now = 0;
const common = { engine: 'native', clock: () => now, cleanup: {} };

/** Keys of every length, so that their texts lie in blocks of every size. */
const keys = Array.from({ length: PEERS }, (_, n) => `${n}-${'k'.repeat(n % 300)}`);

const MAKERS = [Infinity, 300].flatMap((maxPeers) => {
  const options = { ...common, maxPeers };
  const direct = { ...options, messageBurst: 1, orderbookBanThreshold: 2 };
  return [
    () => new RateLimiter({ ...options, rateLimit: 1, burstLimit: 1, disconnectThreshold: 3 }),
    () => new OrderbookRateLimiter({ ...options, violationBanThreshold: 2, banDuration: 50 }),
    () => new DirectConnectionRateLimiter(direct),
  ];
});

const call = (limiter, names, ...given) => {
  for (const name of names) limiter[name]?.(...given);
};
const CHECKS = ['check', 'checkMessage', 'checkOrderbook'];
const LOOKS = ['isBanned', 'getViolationCount', 'getDelayForPeer', 'getTokens', 'getBackoffLevel'];

/** What a native class refuses, or a call behind the facade. */
function fail(limiter) {
  const { core } = limiter;
  const attempts = [
    () => new core.constructor(),
    () => new core.constructor({}, new BigUint64Array(2)),
    () => new core.constructor({}, new BigUint64Array(2), new Int32Array(2)),
    () => core.removePeer(5),
    () => core.violations({}),
    ...(core.addMember ? [() => core.addMember({}, 'key')] : []),
    () => core.restoreOffenders([5], new Float64Array([1, 2, 3, 4, 5])),
  ];
  for (const attempt of attempts) throws(attempt);
}

/** A limiter that has done everything, and is full of peers, offenders and bans. */
function used(make) {
  const limiter = make();
  strictEqual(limiter.engine, 'native');
  const peers = keys.slice(0, 50).map((key) => limiter.open(key));
  const group = limiter.group?.(keys.slice(0, 200));
  for (let again = 0; again < 4; again += 1) {
    for (const key of keys) call(limiter, CHECKS, key);
    for (const peer of peers) call(peer, CHECKS);
    group?.check();
    now += 1;
  }
  for (const key of keys.slice(0, 700)) limiter.removePeer(key);
  for (const key of keys.slice(0, 100)) group?.delete(key);
  for (const key of keys.slice(50, 300)) group?.add(key);
  group?.check();
  for (const key of keys) call(limiter, LOOKS, key);
  for (const peer of peers) call(peer, ['isBanned']);
  fail(limiter);
  call(limiter, ['getStats', 'getStatistics']);
  call(limiter, ['cleanupOldPeers', 'cleanupOldEntries'], -1, { budgetMs: 0 });
  now += 100;
  for (const key of keys) call(limiter, ['isBanned'], key);
  call(limiter, ['cleanupOldPeers', 'cleanupOldEntries'], -1);
  limiter.clear();
  for (let again = 0; again < 4; again += 1) {
    for (const key of keys) call(limiter, CHECKS, key);
  }
  const restarted = make();
  restarted.restore(limiter.snapshot());
  // A walk that nobody ends.
  limiter.snapshotSlices().next();
  restarted.close();
  return limiter;
}

/** A table of leases that has done everything, and is full. */
function usedTable() {
  const table = selectEngine('native').leaseTable();
  for (const key of keys) table.set(key, 3, now + 10);
  for (const key of keys) strictEqual(table.spend(key, 1, now), undefined);
  strictEqual(table.spend('nobody', 1, now), 1);
  strictEqual(table.spend(keys[0], 1), 1);
  strictEqual(table.total(now), keys.length * 2);
  for (const key of keys.slice(0, 700)) table.delete(key);
  strictEqual(table.tokens(keys[0]), 0);
  for (const key of keys) table.set(key, table.tokens(key), now);
  const attempts = [
    () => new table.constructor(),
    () => new table.constructor(new BigUint64Array(1)),
    () => table.set(5, 1, 1),
    () => table.spend({}, 1, 1),
    () => table.tokens(5),
    () => table.delete(5),
  ];
  for (const attempt of attempts) throws(attempt);
  return table;
}

function useAll() {
  const limiters = MAKERS.map(used);
  globalThis.tables = [usedTable(), usedTable()];
  for (const limiter of limiters) {
    limiter.restore(limiter.snapshot());
  }
  return limiters;
}

async function main() {
  for (let round = 0; round < ROUNDS; round += 1) {
    useAll();
    await new Promise((resolve) => setImmediate(resolve));
  }
  const endings = Array.from({ length: THREADS }, async (_, n) => {
    const worker = new Worker(new URL(import.meta.url));
    await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
    // In the middle of a check, as like as not.
    await new Promise((resolve) => setTimeout(resolve, n));
    await worker.terminate();
  });
  await Promise.all(endings);
  globalThis.kept = useAll();
  console.log(
    `leaks: ${(ROUNDS + 1) * MAKERS.length} limiters used, ${THREADS} threads ended in their midst`,
  );
}

function thread() {
  globalThis.kept = useAll();
  parentPort.postMessage('used');
  for (;;) {
    for (const limiter of globalThis.kept) {
      for (const key of keys) call(limiter, CHECKS, key);
    }
  }
}

if (isMainThread) await main();
else thread();
