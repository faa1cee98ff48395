// Every call of the native engine where the system gives it no more memory, at every one of its allocations
// in turn. To be run with test/native/failing-memory.c preloaded.

import { accessSync } from 'node:fs';
import { isDeepStrictEqual } from 'node:util';
import { DirectConnectionRateLimiter, OrderbookRateLimiter, RateLimiter } from 'relay-limiter';
import { selectEngine } from '../../dist/engine/select.js';
import { callsOfRules } from './failing-rules.mjs';

// Some texts are longer than what the engine has at hand for one.
const keys = Array.from({ length: 60 }, (_, n) => n + 'k'.repeat(n % 8 ? 5 : 300));
const FULL = { maxPeers: 25 };
const CHECKS = ['check', 'checkMessage', 'checkOrderbook'];

const clock = () => clock.now;
clock.now = 1000;

const MAKERS = {
  RateLimiter: (options) => new RateLimiter({ clock, rateLimit: 1e-6, burstLimit: 1, ...options }),
  OrderbookRateLimiter: (options) =>
    new OrderbookRateLimiter({ clock, violationBanThreshold: 0, banDuration: 60, ...options }),
  DirectConnectionRateLimiter: (options) =>
    new DirectConnectionRateLimiter({
      ...{ clock, messageRatePerSec: 1e-6, messageBurst: 1, orderbookBanThreshold: 1 },
      ...{ banDuration: 60, ...options },
    }),
};

/** Options with which nobody breaks a limit by one check of each kind, and all are remembered for long. */
const TOLERANT = {
  RateLimiter: {},
  OrderbookRateLimiter: { violationBanThreshold: 100, interval: 3600 },
  DirectConnectionRateLimiter: { orderbookInterval: 3600 },
};

/** What a limiter has of these methods, called for each key. */
function forAll(subject, names) {
  const own = names.filter((name) => subject[name] !== undefined);
  for (const key of keys) for (const name of own) subject[name](key);
}
const check = ({ limiter }) => forAll(limiter, CHECKS);
const statistics = ({ limiter }) => (limiter.getStats ?? limiter.getStatistics).call(limiter);

/** The calls of a limiter: what is done to it, and what is asked afterwards; `given` is what it is done to. */
function callsOfLimiter(make, tolerant) {
  const fresh = (options) => () => ({ limiter: make(options) });
  /** Everybody has broken a limit. */
  const offended = (options) => () => {
    const given = { limiter: make(options) };
    for (let again = 0; again < 2; again += 1) check(given);
    return given;
  };
  const later = () => {
    const given = offended()();
    clock.now += 100;
    return given;
  };
  const opened = () => {
    const limiter = make();
    return { limiter, opened: keys.map((key) => limiter.open(key)) };
  };
  const restoring = (options) => () => ({
    limiter: make(options),
    saved: offended()().limiter.snapshot(),
  });
  const restore = ({ limiter, saved }) => limiter.restore(saved);
  /** Nobody has broken a limit, and all are kept under digests. */
  const awaiting = () => {
    const limiter = make(tolerant);
    forAll(limiter, CHECKS);
    return { limiter: make(tolerant), saved: limiter.snapshot() };
  };
  const awaitingOthers = () => {
    const { limiter, saved } = awaiting();
    for (const name of CHECKS) limiter[name]?.('known before');
    return { limiter, saved };
  };
  const awaited = () => {
    const given = awaitingOthers();
    restore(given);
    return given;
  };
  const digests = ({ limiter }) =>
    limiter.snapshot().digests.reduce((sum, { peers }) => sum + peers.length, 0);
  const grouped = (options) => () => {
    const limiter = make(options);
    return { limiter, group: limiter.group(keys) };
  };
  const checkGroup = ({ group }) => group.check();
  const perKey = (name) => [offended(), ({ limiter }) => forAll(limiter, [name]), peers];

  const peers = (given) => statistics(given).peers;
  const offences = ({ limiter }) =>
    limiter.snapshot().peers.map(({ key, banSecondsLeft }) => [key, banSecondsLeft]);
  const count = (given) => offences(given).length;
  const some = make();
  const bans = ['isBanned', 'banSecondsLeft'];
  const readers = ['getViolationCount', 'getDelayForPeer', 'getTokens', 'peek'];
  const keyed = ['removePeer', ...bans, ...readers].filter((name) => name in some);
  const calls = {
    // Enough that the list of living limiters grows.
    new: [
      () => [],
      (made) => made.push(...Array.from({ length: 12 }, () => make())),
      () => make().engine,
    ],
    check: [fresh(), check, peers],
    'check, of offenders': [offended(), check, offences],
    'check, of a full table': [fresh(FULL), check, peers],
    'check, of a full table of offenders': [offended(FULL), check, peers],
    'check, after bans': [later, check, peers],
    open: [
      opened,
      (given) => {
        for (const peer of given.opened) for (const name of CHECKS) peer[name]?.();
      },
      peers,
    ],
    statistics: [offended(), statistics, peers],
    getOverview: [offended(), ({ limiter }) => limiter.getOverview(), peers],
    // Where there is no memory for the time of its last request, a peer is not stored, but its ban has ended.
    ...('unban' in some && {
      unban: [offended(), ({ limiter }) => forAll(limiter, ['unban']), count],
    }),
    ...('getBans' in some && { getBans: [offended(), ({ limiter }) => limiter.getBans(), peers] }),
    snapshot: [offended(), ({ limiter }) => limiter.snapshot(), offences],
    restore: [restoring(), restore, offences],
    'restore, of a full table': [restoring(FULL), restore, peers],
    'restore, under digests': [awaiting, restore, digests],
    'restore, under digests of others': [awaitingOthers, restore, digests],
    'check, of those who are awaited': [awaited, check, digests],
    cleanup: [
      offended(),
      ({ limiter }) => (limiter.cleanupOldPeers ?? limiter.cleanupOldEntries).call(limiter, -1),
      count,
    ],
    ...Object.fromEntries(keyed.map((name) => [name, perKey(name)])),
    clear: [offended(), ({ limiter }) => limiter.clear(), peers],
  };
  if (some.group === undefined) return calls;
  return {
    ...calls,
    'group, filled': [
      fresh(),
      (given) => {
        given.group = given.limiter.group(keys);
      },
      (given) => given.group.size,
    ],
    'group, checked': [grouped(), checkGroup, peers],
    'group, of a full table': [grouped(FULL), checkGroup, peers],
    'group, emptied': [
      grouped(),
      ({ group }) => {
        for (const key of keys) group.delete(key);
      },
      ({ group }) => group.size,
    ],
  };
}

/** The same of a table of leases. */
function callsOfTable() {
  const made = () => selectEngine('native').leaseTable();
  const set = (table) => {
    for (const key of keys) table.set(key, 2, 10);
  };
  const filled = () => {
    const table = made();
    set(table);
    return table;
  };
  const total = (table) => table.total(9);
  const perKey = (act) => [
    filled,
    (table) => {
      for (const key of keys) act(table, key);
    },
    total,
  ];
  return {
    new: [() => [], (tables) => tables.push(...Array.from({ length: 12 }, made)), () => 0],
    set: [made, set, total],
    'set, of known ones': [filled, set, total],
    spend: perKey((table, key) => table.spend(key, 0, 9)),
    tokens: perKey((table, key) => table.tokens(key)),
    delete: perKey((table, key) => table.delete(key)),
  };
}

function tell(word) {
  try {
    accessSync(`/failing-memory/${word}`);
    return true;
  } catch {
    return false;
  }
}

/** Tries `act` with ever more memory until there is enough. `holds` must be true right after each failure. */
function attempt(make, act, ask, holds = () => true) {
  const control = make();
  act(control);
  const expected = ask(control);
  const said = new Set();
  let failed = 0;
  for (let right = true; ; failed += 1) {
    const given = make();
    tell(failed);
    try {
      act(given);
    } catch (error) {
      said.add(error.code ?? error.message);
    }
    const hit = tell('hit');
    tell(-1);
    right &&= !hit || holds(given);
    act(given);
    right &&= isDeepStrictEqual(ask(given), expected);
    if (!hit) return { failed, said: [...said], right };
  }
}

function callsOf(subject) {
  if (subject === 'LeaseTable') return callsOfTable();
  if (subject === 'RuleLimiter') return callsOfRules(keys.slice(0, 24), clock);
  return callsOfLimiter(MAKERS[subject], TOLERANT[subject]);
}

/** Of each call of a limiter, or of `LeaseTable`: how often it failed, what it threw, and whether it then was right. */
export function tryAll(subject) {
  const outcomes = {};
  for (const [call, [given, act, ask, holds]] of Object.entries(callsOf(subject))) {
    // Read by whoever wants to know which call has crashed.
    process.stderr.write(`${call}\n`);
    outcomes[call] = attempt(given, act, ask, holds);
  }
  return outcomes;
}
