// The program that LeakSanitizer checks for leaks. It calls every method of every native limiter and lease
// table, with success and with errors. Limiters are full, are collected, live until the end, or end with
// their thread. .ci/run builds the addon with the sanitizer.
//
// At the end of a process Node-API frees every object, and the addon frees all memory of its objects. Memory
// that is left then is a leak. The sanitizer reports none of Node itself.

import { strictEqual, throws } from 'node:assert/strict';
import { isMainThread, parentPort, threadId, Worker } from 'node:worker_threads';
import {
  DirectConnectionRateLimiter,
  OrderbookRateLimiter,
  RateLimiter,
  RuleLimiter,
  removeShared,
} from 'relay-limiter';
import { selectEngine } from '../../dist/engine/select.js';

const THREADS = 3;
const ROUNDS = 3;
const PEERS = 1500;

let now = 0;
const common = { engine: 'native', clock: () => now, cleanup: {} };

/** Keys of many lengths, so that their texts use slots of every size. */
const keys = Array.from({ length: PEERS }, (_, n) => `${n}-${'k'.repeat(n % 300)}`);

/** The shared tables of a thread. Threads have tables of their own, so that no call waits for another thread. */
const tablesOf = (thread) =>
  ['rates', 'orderbooks', 'direct'].map((name) => `leaks-${process.pid}-${thread}-${name}`);
const [rates, orderbooks, direct] = tablesOf(threadId);

const MAKERS = [Infinity, 300].flatMap((maxPeers) => makersOf({ ...common, maxPeers }));
const SHARED_MAKERS = makersOf({ engine: 'native', cleanup: {}, maxPeers: 600 }, [
  { shared: rates },
  { shared: orderbooks },
  { shared: direct },
]);

function makersOf(options, [ofRates, ofOrderbooks, ofDirect] = []) {
  const bans = { violationBanThreshold: 2, banDuration: 50 };
  const connections = { messageBurst: 1, orderbookBanThreshold: 2 };
  return [
    () =>
      new RateLimiter({
        ...options,
        rateLimit: 1,
        burstLimit: 1,
        disconnectThreshold: 3,
        ...ofRates,
      }),
    () => new OrderbookRateLimiter({ ...options, ...bans, ...ofOrderbooks }),
    () => new DirectConnectionRateLimiter({ ...options, ...connections, ...ofDirect }),
  ];
}

/** Calls those of the named methods that the limiter has. */
const call = (limiter, names, ...args) => {
  for (const name of names) limiter[name]?.(...args);
};
const CHECKS = ['check', 'checkMessage', 'checkOrderbook'];
const READS = [
  'isBanned',
  'banSecondsLeft',
  'getViolationCount',
  'getDelayForPeer',
  'getTokens',
  'peek',
  'getBackoffLevel',
];

/** Calls the addon with invalid arguments, which the facades would reject. */
function callInvalid(limiter) {
  const { core } = limiter;
  const attempts = [
    () => new core.constructor(),
    () => new core.constructor({}, new BigUint64Array(2)),
    () => new core.constructor({}, new BigUint64Array(2), new Int32Array(2)),
    () => core.removePeer(5),
    () => core.violations({}),
    ...(core.unban ? [() => core.unban(5)] : []),
    ...(core.addMember ? [() => core.addMember({}, 'key')] : []),
    () => core.restoreOffenders([5], new Float64Array([1, 2, 3, 4, 5])),
  ];
  for (const attempt of attempts) throws(attempt);
}

/** A limiter after calls of all its methods, full of peers, offenders and bans. */
function useLimiter(make) {
  const limiter = make();
  strictEqual(limiter.engine, 'native');
  const peers = keys.slice(0, 50).map((key) => limiter.open(key));
  const group = limiter.group?.(keys.slice(0, 200));
  for (let repeat = 0; repeat < 4; repeat += 1) {
    for (const key of keys) call(limiter, CHECKS, key);
    for (const peer of peers) call(peer, CHECKS);
    group?.check();
    now += 1;
  }
  for (const key of keys.slice(0, 700)) limiter.removePeer(key);
  for (const key of keys.slice(0, 100)) group?.delete(key);
  for (const key of keys.slice(50, 300)) group?.add(key);
  group?.check();
  for (const key of keys) call(limiter, READS, key);
  for (const key of keys.slice(700, 900)) call(limiter, ['unban'], key);
  for (const peer of peers) call(peer, ['isBanned', 'banSecondsLeft', 'peek']);
  callInvalid(limiter);
  call(limiter, ['getStats', 'getStatistics']);
  call(limiter, ['cleanupOldPeers', 'cleanupOldEntries'], -1, { budgetMs: 0 });
  now += 100;
  for (const key of keys) call(limiter, ['isBanned'], key);
  call(limiter, ['cleanupOldPeers', 'cleanupOldEntries'], -1);
  limiter.clear();
  for (let repeat = 0; repeat < 4; repeat += 1) {
    for (const key of keys) call(limiter, CHECKS, key);
  }
  const restarted = make();
  restarted.restore(limiter.snapshot());
  // A snapshot that never ends.
  limiter.snapshotSlices().next();
  restarted.close();
  return limiter;
}

/** The same of a shared table, which one limiter leaves. Another one is never created. */
function useShared(make) {
  const limiter = useLimiter(make);
  strictEqual(limiter.shared.detached, false);
  const left = make();
  left.close();
  left.close();
  throws(() => left.getViolationCount('key'), { code: 'ERR_LIMITER_SHARED' });
  throws(() => new limiter.constructor({ shared: limiter.shared.name, maxPeers: 5 }), {
    code: 'ERR_LIMITER_SHARED',
  });
  return limiter;
}

const RULES = {
  messages: { scope: 'connection', rateLimit: 1, burstLimit: 1 },
  events: { scope: 'account', rateLimit: 1, burstLimit: 3 },
};
/** With these, records of connections need more bytes. */
const MORE_RULES = Object.fromEntries(
  Array.from({ length: 6 }, (_, n) => [`more ${n}`, { ...RULES.messages, action: 'more' }]),
);

/** A rule limiter after calls of all its methods. */
function useRules(maxPeers) {
  let seconds = 0;
  const make = () =>
    new RuleLimiter({
      ...common,
      clock: () => seconds,
      maxPeers,
      scopes: { connection: {}, account: {}, server: { single: true } },
      rules: { ...RULES, everybody: { scope: 'server', rateLimit: 1e6 } },
      bans: { connection: { violations: 3, withinSeconds: 10, seconds: [50, 500] } },
    });
  const limiter = make();
  strictEqual(limiter.engine, 'native');
  const of = (key) => ({ connection: key, account: key });
  const peers = keys.slice(0, 50).map((key) => limiter.open(of(key)));
  for (let repeat = 0; repeat < 4; repeat += 1) {
    for (const key of keys) limiter.check(of(key));
    for (const peer of peers) peer.check();
    if (repeat === 1) limiter.update({ rules: { ...RULES, ...MORE_RULES } });
    seconds += 0.1;
  }
  for (const key of keys.slice(0, 700)) limiter.removePeer(of(key));
  for (const key of keys) {
    limiter.charge(of(key));
    limiter.refund(of(key));
    limiter.peek(of(key), 1, 'more');
    limiter.ban('account', key, 5);
    limiter.banSecondsLeft('account', key);
  }
  for (const key of keys.slice(300, 600)) limiter.unban('account', key);
  throws(() => limiter.core.removePeer(0, 5));
  limiter.getStats();
  limiter.getBans('account');
  limiter.cleanup(-1, { budgetMs: 0 });
  seconds += 1000;
  limiter.cleanup(-1);
  limiter.clear();
  for (const key of keys) for (let n = 0; n < 4; n += 1) limiter.check(of(key));
  const restarted = make();
  restarted.restore(limiter.snapshot());
  for (const key of keys.slice(0, 100)) restarted.check(of(key));
  limiter.snapshotSlices().next();
  restarted.close();
  return limiter;
}

/** A full lease table after calls of all its methods. */
function useTable() {
  const table = selectEngine('native').leaseTable();
  for (const key of keys) table.set(key, 3, now + 10);
  for (const key of keys) strictEqual(table.spend(key, 1, now), undefined);
  strictEqual(table.spend('unknown', 1, now), 1);
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
  const limiters = [...MAKERS.map(useLimiter), ...SHARED_MAKERS.map(useShared)];
  globalThis.tables = [useTable(), useTable()];
  globalThis.rules = [useRules(Infinity), useRules(300)];
  for (const limiter of limiters) {
    limiter.restore(limiter.snapshot());
  }
  return limiters;
}

async function main() {
  process.on('exit', () => {
    for (let thread = 0; thread <= THREADS; thread += 1) tablesOf(thread).forEach(removeShared);
  });
  for (let round = 0; round < ROUNDS; round += 1) {
    useAll();
    await new Promise((resolve) => setImmediate(resolve));
  }
  const terminations = Array.from({ length: THREADS }, async (_, n) => {
    const worker = new Worker(new URL(import.meta.url));
    await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
    // Most likely during a check.
    await new Promise((resolve) => setTimeout(resolve, n));
    await worker.terminate();
  });
  await Promise.all(terminations);
  globalThis.kept = useAll();
  console.log(
    `leaks: ${(ROUNDS + 1) * (MAKERS.length + SHARED_MAKERS.length + 2)} limiters used, ${THREADS} threads ended while they used theirs`,
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
