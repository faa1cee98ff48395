// The calls of a RuleLimiter where the system gives no more memory: see failing-memory.mjs.

import { RuleLimiter } from 'relay-limiter';

const SCOPES = { connection: {}, account: {}, server: { single: true } };
const RULES = {
  messages: { scope: 'connection', rateLimit: 1e-6, burstLimit: 1 },
  events: { scope: 'account', rateLimit: 1e-6, burstLimit: 1 },
  everybody: { scope: 'server', rateLimit: 1e-6, burstLimit: 1000 },
};
/** So many that records of the scope need more bytes. */
const MORE = Object.fromEntries(
  Array.from({ length: 5 }, (_, n) => [
    `more ${n}`,
    { scope: 'connection', action: 'other', rateLimit: 1 },
  ]),
);
const BANS = { connection: { violations: 1, withinSeconds: 60, seconds: 3600 } };
const FULL = { maxPeers: 10 };

/**
 * For each call what it is done to, what is done, what is asked afterwards, and what must hold right after a failure:
 * that no check has taken tokens in one scope and not in another, for example.
 */
export function callsOfRules(keys, clock) {
  const make = (options) =>
    new RuleLimiter({ clock, scopes: SCOPES, rules: RULES, bans: BANS, ...options });
  const of = (key) => ({ connection: key, account: key });
  const forAll = (act) => (given) => {
    for (const key of keys) act(given, key);
  };
  const checkAll = forAll(({ limiter }, key) => limiter.check(of(key)));

  const fresh = (options) => () => ({ limiter: make(options) });
  const used = (options) => () => {
    const given = fresh(options)();
    checkAll(given);
    return given;
  };
  /** Each key is banned, as many as there is space for. */
  const banned = (options) => () => {
    const given = fresh(options)();
    for (const key of keys) for (let n = 0; n < 2; n += 1) given.limiter.check(of(key));
    return given;
  };
  const opened = () => {
    const { limiter } = fresh()();
    return { limiter, peers: keys.map((key) => limiter.open(of(key))) };
  };
  const updated = () => {
    const given = used()();
    given.limiter.update({ rules: { ...RULES, ...MORE } });
    return given;
  };
  const restoring = (saved, options) => () => ({
    limiter: make(options),
    saved: saved().limiter.snapshot(),
  });
  const restore = ({ limiter, saved }) => limiter.restore(saved);
  const awaited = () => {
    const given = restoring(used())();
    restore(given);
    return given;
  };

  const left = ({ limiter }) =>
    keys.map((key) => limiter.peek(of(key)).rules.map(({ remaining }) => remaining));
  const peers = ({ limiter }) => {
    const { scopes } = limiter.getStats();
    return Object.values(scopes).map((scope) => scope.peers);
  };
  const offenders = ({ limiter }) => {
    const { scopes } = limiter.snapshot();
    return scopes.map((scope) =>
      scope.peers.map(({ key, violations, banSecondsLeft }) => [key, violations, banSecondsLeft]),
    );
  };
  /** Which keys a full table keeps is chance. */
  const bans = ({ limiter }) => limiter.getBans('connection').count;
  const isFull = (given) => bans(given) === FULL.maxPeers;
  const pending = ({ limiter }) =>
    limiter.snapshot().scopes.flatMap(({ digests }) => digests.flatMap((group) => group.peers))
      .length;

  /** Every check has taken one token of all rules, or none. Keys that have used none have no record. */
  const isWhole = (given) => {
    const all = left(given);
    const charged = all.filter(([messages]) => messages !== 1).length;
    const isWholeKey = ([messages, events, everybody]) =>
      messages === events && everybody === 1000 - charged;
    return all.every(isWholeKey) && peers(given).every((count) => count === charged);
  };
  const isUsed = (given) =>
    left(given).every(([messages, events]) => messages === 0 && events === 0);
  const areBanned = ({ limiter }) =>
    keys.every((key) => limiter.check(of(key)).outcome === 'banned');

  const perKey = (given, act, ask, holds) => [given, forAll(act), ask, holds];
  return {
    new: [() => [], (made) => made.push(make(), make()), () => make().engine],
    check: [fresh(), checkAll, peers, isWhole],
    'check, of the used': [used(), checkAll, offenders, isUsed],
    'check, of the banned': [banned(), checkAll, offenders, areBanned],
    'check, of a full table': [fresh(FULL), checkAll, peers],
    'check, of a full table of the banned': [banned(FULL), checkAll, bans, isFull],
    'check, of those who are awaited': [awaited, checkAll, offenders, isUsed],
    'check, of an opened peer': [
      opened,
      (given) => {
        for (const peer of given.peers) peer.check();
      },
      peers,
      isWhole,
    ],
    'check, after an update': [updated, checkAll, offenders, isUsed],
    charge: perKey(fresh(), ({ limiter }, key) => limiter.charge(of(key)), peers, isWhole),
    'charge, of a full table': perKey(
      fresh(FULL),
      ({ limiter }, key) => limiter.charge(of(key)),
      peers,
    ),
    refund: perKey(used(), ({ limiter }, key) => limiter.refund(of(key), 0), left, isUsed),
    peek: perKey(used(), ({ limiter }, key) => limiter.peek(of(key)), left, isUsed),
    ban: perKey(
      used(),
      ({ limiter }, key) => limiter.ban('account', key, 60),
      ({ limiter }) => limiter.getBans('account').count,
      isUsed,
    ),
    unban: perKey(
      banned(),
      ({ limiter }, key) => limiter.unban('connection', key),
      ({ limiter }) => limiter.getBans('connection').count,
    ),
    banSecondsLeft: perKey(
      banned(),
      ({ limiter }, key) => limiter.banSecondsLeft('connection', key),
      offenders,
      areBanned,
    ),
    getBans: [banned(), ({ limiter }) => limiter.getBans('connection'), offenders, areBanned],
    getStats: [banned(), ({ limiter }) => limiter.getStats(), offenders, areBanned],
    update: [
      used(),
      ({ limiter }) => limiter.update({ rules: { ...RULES, ...MORE } }),
      (given) => [left(given), given.limiter.peek(of('a'), 1, 'other').rules.length],
      (given) => isUsed(given) && given.limiter.peek(of('a'), 1, 'other').rules.length === 3,
    ],
    snapshot: [banned(), ({ limiter }) => limiter.snapshot(), offenders, areBanned],
    restore: [restoring(banned()), restore, offenders],
    'restore, of a full table': [restoring(banned(), FULL), restore, peers],
    'restore, under digests': [restoring(used()), restore, pending],
    cleanup: [banned(), ({ limiter }) => limiter.cleanup(-1), offenders, areBanned],
    removePeer: perKey(used(), ({ limiter }, key) => limiter.removePeer(of(key)), peers),
    clear: [banned(), ({ limiter }) => limiter.clear(), peers],
  };
}
