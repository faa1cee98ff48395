// One round of a RuleLimiter: a hostile mix of calls, each answer compared with the reference model, which is exact.
//
// Either the limiter has space for every key; the clock may then step back. Or it is full: which records it evicts is not
// reproducible, so each call first finds out whether the keys that it names are still stored.

import { type EngineName, type RuleBan, RuleLimiter, type RulePeer } from 'relay-limiter';
import { type Random, seeded } from '../test/support/random.js';
import { VirtualClock } from './clock.js';
import { Journal } from './journal.js';
import { Difference } from './model/model.js';
import type { RuleQuery } from './model/rule-answers.js';
import { RuleModel } from './model/rule-model.js';
import { RuleRates } from './model/rule-records.js';
import { compareRuleStatistics, differ } from './model/rule-statistics.js';
import { ListenerFault, type RoundOptions } from './round.js';
import { injectRuleFault } from './rule-faults.js';
import { RuleLosses } from './rule-losses.js';
import { RuleRoundKeys } from './rule-round-keys.js';
import {
  ACTION,
  addedRules,
  changedSetup,
  KEYED_SCOPES,
  OWN_SCOPES,
  PLANS,
  RULE_SCOPES,
  type RuleSetup,
  randomSetup,
  SCOPE_OPTIONS,
  sectionsOf,
} from './rule-setup.js';
import type { Tally } from './tally.js';

const MAX_PEERS = [Infinity, Infinity, 1, 2, 16, 17, 100];
const COSTS = [1, 1, 1, 1, 0, 0.5, 2, 3.7, 40, 1000];
const SETTLED = [0, 0.5, 1, 7];
const BAN_SECONDS = [0.5, 30, 86_400, Infinity];
const AGES = [-1, 0, 1, 30, 3600, Infinity];

export interface RuleRoundOptions extends Omit<RoundOptions, 'standIn'> {
  /** Changes each limiter before its first call: for tests of the soak. */
  readonly spoil?: (limiter: RuleLimiter) => void;
}

export class RuleRound {
  readonly subject = { name: 'RuleLimiter' };
  readonly maxPeers: number;
  limiter: RuleLimiter;

  readonly #options: RuleRoundOptions;
  readonly #tally: Tally;
  readonly #random: Random;
  readonly #clock: VirtualClock;
  readonly #keys: RuleRoundKeys;
  readonly #journal: Journal;
  /** Returned by `random` of the limiter. */
  readonly #jitter: number;
  #setup: RuleSetup;
  #model: RuleModel;
  #peers = new Map<string, { peer: RulePeer; plan: number }>();
  #reported: RuleBan[] = [];
  /** The latest time so far. */
  #latest = 0;
  /** The clock does not step back behind an update with new rules: how old times count then is not modelled. */
  #earliest = 0;
  readonly #losses: RuleLosses;

  constructor(options: RuleRoundOptions, tally: Tally) {
    this.#options = options;
    this.#tally = tally;
    this.#random = seeded(options.seed);
    const random = this.#random;
    this.maxPeers = random.pick(MAX_PEERS);
    this.#clock = new VirtualClock(random() * 1e6);
    this.#keys = new RuleRoundKeys(random);
    this.#journal = new Journal(tally);
    this.#jitter = random();
    this.#setup = randomSetup(random, this.#keys.anyKey);
    this.#model = new RuleModel({
      scopes: RULE_SCOPES,
      maxPeers: this.maxPeers,
      rates: new RuleRates(this.#setup.rules),
      random: this.#jitter,
      keysOf: this.#keys.resolved,
      ...this.#setup,
    });
    this.#losses = new RuleLosses({
      limiter: () => this.limiter,
      model: () => this.#model,
      keysOf: this.#keys.resolved,
      now: () => this.#clock.now,
    });
    this.limiter = this.#create(options.engine);
  }

  /** Makes at least that many operations. @throws Difference, or an unexpected error of the limiter. */
  run(operations: number): void {
    const end = this.#tally.operations + operations;
    while (this.#tally.operations < end) {
      const { now } = this.#clock;
      this.#clock.move(this.#random);
      const earliest = this.#isFull ? now : this.#earliest;
      this.#clock.now = Math.max(earliest, this.#clock.now);
      this.#latest = Math.max(this.#latest, this.#clock.now);
      this.#step();
    }
  }

  /** Compares everything a last time, before and after a restart. @throws Difference */
  end(): void {
    this.#restart();
    this.#tally.keys += this.#keys.count;
  }

  /** Returns the limiter's configuration and the last calls as text. */
  describe(): string {
    const setup = JSON.stringify(this.#setup);
    return `RuleLimiter on ${this.limiter.engine}, maxPeers ${this.maxPeers}, ${setup}\n${this.#journal.text()}`;
  }

  get #isFull(): boolean {
    return this.maxPeers < Infinity;
  }

  #step(): void {
    const random = this.#random;
    const dice = random();
    const scope = random.pick(KEYED_SCOPES);
    const key = this.#keys.anyKey(scope);
    const connection = random.pick(this.#keys.pool);
    if (dice < 0.6) this.#check(this.#randomQuery());
    else if (dice < 0.72) this.#rotateNick();
    else if (dice < 0.78) this.#peek(this.#randomQuery());
    else if (dice < 0.84) this.#settle(this.#randomQuery());
    else if (dice < 0.87) this.#inspect(scope, key);
    else if (dice < 0.885) this.#ban(scope, key);
    else if (dice < 0.9) this.#unban(scope, key);
    else if (dice < 0.94) this.#remove(scope, key);
    else if (dice < 0.97) this.#assign(connection);
    else if (dice < 0.985) this.#fault(connection);
    else if (dice < 0.988) this.#update();
    else if (dice < 0.9882) this.#flood();
    else if (dice < 0.989) this.#cleanup();
    else if (dice < 0.9892) this.#checkpoint();
    else if (dice < 0.9894) this.#restart();
    else if (dice < 0.98943) this.#clear();
    else this.#checkPeer(connection);
  }

  #randomQuery(): RuleQuery {
    const random = this.#random;
    const names = random.pick([OWN_SCOPES, OWN_SCOPES, ['connection', 'account'], ['address'], []]);
    const keys = Object.fromEntries(names.map((name) => [name, this.#keys.anyGiven(name)]));
    return { keys, plan: random.below(PLANS.length), ...this.#randomCall() };
  }

  #randomCall(): Pick<RuleQuery, 'cost' | 'action'> {
    const random = this.#random;
    const hasBytes = this.#setup.rules.some(({ unit }) => unit === 'bytes');
    const bytes = hasBytes && random() < 0.5 ? { bytes: random.pick(COSTS) } : {};
    const cost = { requests: random.pick(COSTS), ...bytes };
    return { cost, action: random.pick([undefined, ACTION, 'another']) };
  }

  #check(query: RuleQuery): void {
    const { keys, cost, action, plan } = query;
    this.#losses.find(keys);
    const given = this.limiter.check(keys, cost, action, PLANS[plan]);
    this.#compareCheck('check', query, given);
  }

  /** Checks an opened peer, or opens one. */
  #checkPeer(key: string): void {
    const known = this.#peers.get(key);
    const { peer, plan } = known ?? { peer: this.limiter.open({ connection: key }), plan: 0 };
    if (known === undefined) this.#peers.set(key, { peer, plan });
    const query = { keys: peer.keys as RuleQuery['keys'], plan, ...this.#randomCall() };
    this.#losses.find(query.keys);
    this.#compareCheck('checkPeer', query, peer.check(query.cost, query.action));
  }

  #compareCheck(call: string, query: RuleQuery, given: unknown): void {
    const expected = this.#model.check(query, this.#clock.now);
    this.#journal.note(call, query, given);
    differ(call, given, expected);
    differ('the reported bans', this.#reported, this.#model.begun);
    this.#tally.bans += this.#reported.length;
    this.#reported = [];
  }

  #assign(key: string): void {
    const known = this.#peers.get(key);
    if (known === undefined) return;
    const random = this.#random;
    const plan = random.below(PLANS.length);
    const scope = random.pick(['account', 'address']);
    // Without a plan it keeps the one that it has.
    known.peer.assign({ [scope]: this.#keys.anyGiven(scope) }, PLANS[plan]);
    if (plan !== 0) known.plan = plan;
    this.#journal.note('assign', known.peer.keys, PLANS[plan]);
  }

  /** Checks a fresh key a few times and never again. */
  #rotateNick(): void {
    const scope = this.#random.pick(OWN_SCOPES);
    const fresh = this.#keys.fresh(scope);
    const keys = { [scope]: fresh };
    const plan = this.#random.below(PLANS.length);
    for (let n = this.#random.below(3); n >= 0; n -= 1) {
      this.#check({ keys, plan, ...this.#randomCall() });
    }
    this.#losses.forget(keys);
    this.#keys.forget(fresh);
  }

  #flood(): void {
    for (let times = 200 + this.#random.below(2000); times > 0; times -= 1) this.#rotateNick();
  }

  #peek(query: RuleQuery): void {
    const { keys, cost, action, plan } = query;
    this.#losses.find(keys);
    const { verdict, rules } = this.limiter.peek(keys, cost, action, PLANS[plan]);
    const expected = this.#model.peek(query, this.#clock.now);
    this.#journal.note('peek', query, verdict);
    differ('peek', verdict, expected.verdict);
    const limits = new Map(this.#setup.rules.map(({ name, plans }) => [name, plans[plan]]));
    const left = expected.used.map(([name, used]) => [name, (limits.get(name)?.burst ?? 0) - used]);
    differ(
      'the tokens left',
      rules.map(({ rule, remaining }) => [rule, remaining]),
      left,
    );
  }

  #settle(query: RuleQuery): void {
    const { keys, action, plan } = query;
    const isCharge = this.#random() < 0.5;
    const cost = { requests: this.#random.pick(SETTLED) };
    this.#losses.find(keys);
    this.limiter[isCharge ? 'charge' : 'refund'](keys, cost, action, PLANS[plan]);
    this.#journal.note(isCharge ? 'charge' : 'refund', { ...query, cost });
    this.#model.settle({ ...query, cost }, isCharge ? 1 : -1, this.#clock.now);
  }

  #inspect(scope: string, key: string): void {
    this.#losses.findIn(scope, key);
    const record = this.#model.find(scope, key);
    const left = Math.max(0, (record?.banEnd ?? 0) - this.#clock.now);
    this.#journal.note('inspect', scope, key);
    differ('violations', this.limiter.scope(scope).getViolationCount(key), record?.violations ?? 0);
    differ('banSecondsLeft', this.limiter.banSecondsLeft(scope, key), left);
  }

  #ban(scope: string, key: string): void {
    const seconds = this.#random.pick(BAN_SECONDS);
    this.#losses.findIn(scope, key);
    const isDone = this.limiter.ban(scope, key, seconds);
    this.#journal.note('ban', scope, key, seconds, isDone);
    differ('ban', isDone, this.#model.ban(scope, key, seconds, this.#clock.now));
  }

  #unban(scope: string, key: string): void {
    this.#losses.findIn(scope, key);
    const isDone = this.limiter.unban(scope, key);
    this.#journal.note('unban', scope, key, isDone);
    differ('unban', isDone, this.#model.unban(scope, key, this.#clock.now));
  }

  #remove(scope: string, key: string): void {
    this.limiter.removePeer({ [scope]: key });
    this.#journal.note('removePeer', scope, key);
    this.#model.lose(scope, key);
  }

  #fault(key: string): void {
    const { allow, deny } = this.#setup;
    // The clock is not read for a key on a list.
    if ([allow, deny].some((lists) => lists['connection']?.includes(key))) return;
    const target = { limiter: this.limiter, clock: this.#clock, key };
    const kind = injectRuleFault(target, this.#random);
    this.#journal.note('fault', kind, key);
    this.#tally.fault(kind);
  }

  #update(): void {
    const before = this.#setup;
    this.#setup = changedSetup(this.#random, before, this.#keys.anyKey);
    const addsRules = addedRules(before, this.#setup).length > 0;
    if (addsRules) this.#clock.now = this.#latest;
    this.limiter.update(sectionsOf(this.#setup));
    this.#journal.note('update', this.#setup);
    this.#model.update(this.#setup, this.#clock.now);
    if (!addsRules) return;
    this.#clock.now += 2 ** -10;
    this.#earliest = this.#clock.now;
  }

  #cleanup(): void {
    const age = this.#random.pick(AGES);
    // In a full table the model does not know all records, and a record that is left over is as one that is not.
    const budgetMs = this.#isFull && this.#random() < 0.5 ? this.#random() : undefined;
    const removed = this.limiter.cleanup(age, budgetMs === undefined ? undefined : { budgetMs });
    this.#journal.note('cleanup', age, budgetMs, removed);
    if (this.#isFull) this.#losses.findAll();
    if (budgetMs !== undefined) return;
    const expected = this.#model.cleanup(age, this.#clock.now);
    if (!this.#isFull) differ('cleanup', removed, expected);
  }

  #clear(): void {
    this.#journal.note('clear');
    this.limiter.clear();
    this.#model.clear();
  }

  #checkpoint(): void {
    if (this.#isFull) this.#losses.findAll();
    const { limiter } = this;
    this.#journal.note('statistics');
    compareRuleStatistics(limiter, this.#model, this.#clock.now, this.#losses.lossy);
  }

  /** Restores a snapshot, converted to JSON and back, in a new limiter, perhaps of the other engine. */
  #restart(): void {
    this.#checkpoint();
    const { now } = this.#clock;
    const before = this.limiter;
    const { scopes } = before.getStats();
    for (const { evictions, lossyEvictions, refusedNewcomers } of Object.values(scopes)) {
      this.#tally.evictions += evictions;
      this.#tally.lossyEvictions += lossyEvictions;
      this.#tally.refusedNewcomers += refusedNewcomers;
    }
    const snapshot = before.snapshot();
    const named = new Map(
      snapshot.scopes.map(({ scope, peers }) => [scope, new Set(peers.map(({ key }) => key))]),
    );
    this.#model = this.#model.restarted(({ scope, key, isOffender }) => {
      const isNamed = named.get(scope)?.has(key) ?? false;
      const mayBeUnnamed = key.length > 128 && (scopes[scope]?.unnamedOffenders ?? 0) > 0;
      if (isNamed === isOffender || (isOffender && mayBeUnnamed)) return isNamed;
      throw new Difference(`in a snapshot, ${key.slice(0, 60)} of ${scope} is listed: ${isNamed}`);
    }, now);
    const { engine, otherEngine } = this.#options;
    this.limiter = this.#create(this.#random.pick([engine, otherEngine]));
    const restored = this.limiter.restore(JSON.parse(JSON.stringify(snapshot)));
    this.#journal.note('restart', this.limiter.engine, restored);
    if (this.#isFull) this.#losses.findAll();
    else {
      const stored = KEYED_SCOPES.reduce((sum, name) => sum + this.#model.records(name).size, 0);
      differ('the number of restored keys', restored, stored);
    }
    this.#checkpoint();
    for (const [scope, pool] of Object.entries(this.#keys.pools)) {
      for (const key of pool.slice(0, 200)) {
        const cost = { requests: 0 };
        this.#peek({ keys: { [scope]: key }, cost, action: ACTION, plan: 0 });
      }
    }
    this.#tally.snapshots += 1;
  }

  #create(engine: EngineName): RuleLimiter {
    this.#peers = new Map();
    this.#losses.clear();
    const limiter = new RuleLimiter({
      ...{ engine, maxPeers: this.maxPeers, clock: this.#clock.read, random: () => this.#jitter },
      ...{ scopes: SCOPE_OPTIONS, ...sectionsOf(this.#setup) },
      onBan: (ban) => this.#listen(ban),
    });
    this.#options.spoil?.(limiter);
    return limiter;
  }

  #listen(ban: RuleBan): void {
    this.#reported.push(ban);
    if (!this.#options.throwingListener || this.#random() > 0.01) return;
    this.#tally.thrown += 1;
    this.#tally.fault('ban listener throws');
    throw new ListenerFault('the ban listener failed');
  }
}
