// One round: makes a hostile mix of calls to a limiter with random options, and compares every answer with the
// reference model.

import type { Ban, EngineName, PeerGroup } from 'relay-limiter';
import { type Random, seeded } from '../test/support/random.js';
import { VirtualClock } from './clock.js';
import { injectFault } from './faults.js';
import { Journal } from './journal.js';
import { FreshKeys, isFreshKey, MAX_QUERIES_OF_FRESH, poolOfKeys } from './keys.js';
import { maxMemoryBytes } from './memory.js';
import { Difference, Model, near, violationsOf } from './model/model.js';
import type { Query } from './model/rules.js';
import {
  type Host,
  type LimiterAdapter,
  type Statistics,
  SUBJECTS,
  type Subject,
} from './subjects.js';
import type { Tally } from './tally.js';

const MAX_PEERS = [1, 2, 16, 17, 100, 1000, 20_000, Infinity];
const AGES = [-1, 0, 1, 30, 3600, Infinity];

/** The error that the ban listener sometimes throws. */
export class ListenerFault extends Error {}

export interface RoundOptions {
  readonly seed: number;
  readonly engine: EngineName;
  /** A restart chooses between `engine` and this engine. If they are equal, the engine never changes. */
  readonly otherEngine: EngineName;
  /** Whether the ban listener throws sometimes; `tally.thrown` counts how often. */
  readonly throwingListener: boolean;
  /** Creates a limiter that replaces the subject's own: for tests of the soak. */
  readonly standIn?: (subject: Subject, host: Host) => LimiterAdapter;
}

export class Round {
  readonly subject: Subject;
  readonly maxPeers: number;
  limiter: LimiterAdapter;

  readonly #options: RoundOptions;
  readonly #tally: Tally;
  readonly #random: Random;
  readonly #clock: VirtualClock;
  readonly #pool: readonly string[];
  readonly #freshKeys: FreshKeys;
  #model: Model;
  readonly #host: Host;
  readonly #journal: Journal;
  #group: PeerGroup | undefined;
  /** The number of peers restored under digests. */
  #pending = 0;
  #ban: Ban | undefined;
  /** The number of bans that this limiter has reported to its listener. */
  #announced = 0;

  constructor(options: RoundOptions, tally: Tally) {
    this.#options = options;
    this.#tally = tally;
    this.#random = seeded(options.seed);
    this.subject = this.#random.pick(SUBJECTS)(this.#random);
    this.maxPeers = this.#random.pick(MAX_PEERS);
    this.#journal = new Journal(tally);
    this.#clock = new VirtualClock(this.#random() * 1e6);
    this.#pool = poolOfKeys(this.#random);
    this.#freshKeys = new FreshKeys(this.#random);
    this.#model = new Model(this.subject.rules, this.maxPeers);
    this.#host = {
      maxPeers: this.maxPeers,
      clock: this.#clock.read,
      onBan: (ban) => this.#listen(ban),
      takeBan: () => {
        const ban = this.#ban;
        this.#ban = undefined;
        return ban;
      },
    };
    this.limiter = this.#create(options.engine);
  }

  /** Makes at least that many operations. @throws Difference, or an unexpected error of the limiter. */
  run(operations: number): void {
    const end = this.#tally.operations + operations;
    while (this.#tally.operations < end) {
      this.#clock.move(this.#random);
      this.#step();
    }
  }

  /** Compares everything a last time, before and after a restart. @throws Difference */
  end(): void {
    this.#restart();
    this.#checkpoint();
    this.#tally.keys += this.#pool.length + this.#freshKeys.count;
  }

  /** Returns the limiter's configuration and the last calls as text. */
  describe(): string {
    const { name } = this.subject;
    return `${name} on ${this.limiter.engine}, maxPeers ${this.maxPeers}\n${this.#journal.text()}`;
  }

  #step(): void {
    const random = this.#random;
    const dice = random();
    if (dice < 0.75) this.#query(random.pick(this.#pool), random.pick(this.subject.queries));
    else if (dice < 0.88) this.#rotateNick();
    else if (dice < 0.96) this.#inspect(random.pick(this.#pool));
    else if (dice < 0.985) this.#remove(random.pick(this.#pool));
    else if (dice < 0.992) this.#fault();
    else if (dice < 0.9985) this.#checkGroup();
    else if (dice < 0.9987) this.#flood();
    else if (dice < 0.9993) this.#cleanup(random() < 0.5 ? 0 : random());
    else if (dice < 0.9995) this.#cleanup(undefined);
    else if (dice < 0.9998) this.#checkpoint();
    else if (dice < 0.99988) this.#restoreOwn();
    else if (dice < 0.99998) this.#restart();
    else this.#clear();
  }

  #query(key: string, query: Query): void {
    const { now } = this.#clock;
    const opened = !isFreshKey(key) && this.#random() < 0.3;
    const answer = opened ? this.limiter.queryPeer(key, query) : this.limiter.query(key, query);
    this.#journal.note(opened ? 'queryPeer' : 'ask', key, query, answer);
    this.#model.query(key, query, now, answer, (outcome) => outcome.answer);
  }

  /** Queries a fresh key a few times and never again. */
  #rotateNick(): void {
    const key = this.#freshKeys.next();
    const times = 1 + this.#random.below(MAX_QUERIES_OF_FRESH);
    for (let n = 0; n < times; n += 1) this.#query(key, this.#random.pick(this.subject.queries));
    this.#model.untrack(key);
  }

  #flood(): void {
    const times = 200 + this.#random.below(2000);
    const query = this.#random.pick(this.subject.queries);
    for (let n = 0; n < times; n += 1) {
      const key = this.#freshKeys.next();
      this.#query(key, query);
      this.#model.untrack(key);
    }
  }

  #inspect(key: string): void {
    const { now } = this.#clock;
    const violations = this.limiter.violations(key);
    this.#journal.note('violations', key, violations);
    this.#model.observe(key, 'violations', now, violations, violationsOf);
    const { rules } = this.subject;
    for (const what of ['tokens', 'delay'] as const) {
      const [said, rule] = [this.limiter[what]?.(key), rules[what]];
      if (said !== undefined && rule !== undefined) this.#model.observe(key, what, now, said, rule);
    }
    for (const what of ['refilled', 'secondsLeft'] as const) {
      const [said, rule] = [this.limiter[what]?.(key), rules[what]];
      if (said === undefined || rule === undefined) continue;
      const about = (value: number) => (near(value, said) ? said : value);
      this.#model.observe(key, what, now, said, (state) => about(rule(state, now)));
    }
  }

  #remove(key: string): void {
    this.#journal.note('remove', key);
    this.limiter.remove(key);
    this.#model.remove(key);
  }

  #checkGroup(): void {
    const { limiter, subject } = this;
    if (limiter.group === undefined) return;
    this.#group ??= limiter.group([]);
    for (let n = this.#random.below(20); n > 0; n -= 1) {
      const key = this.#random.pick(this.#pool);
      if (this.#random() < 0.7) this.#group.add(key);
      else this.#group.delete(key);
    }
    const queries = subject.queries.filter(({ kind }) => kind === 'tokens');
    const query = this.#random.pick(queries) as Query & { kind: 'tokens' };
    // The clock is the caller's code: it may change the table during the check.
    const leaves = this.#random.pick(this.#pool);
    this.#clock.failOnce(() => {
      limiter.remove(leaves);
      return this.#clock.now;
    });
    const verdicts = this.#group.check(query.cost);
    this.#journal.note('group', query.cost, 'without', leaves, [...this.#group.keys()].length);
    this.#model.remove(leaves);
    let member = 0;
    for (const key of this.#group.keys()) {
      const verdict = verdicts[member] as number;
      this.#model.query(key, query, this.#clock.now, verdict, (outcome) => outcome.verdict);
      member += 1;
    }
    this.#tally.operations += member;
  }

  #cleanup(budgetMs: number | undefined): void {
    const age = this.#random.pick(AGES);
    const before = budgetMs === undefined ? this.limiter.statistics().tracked : 0;
    const removed = this.limiter.cleanup(age, budgetMs);
    this.#journal.note('cleanup', age, budgetMs, removed);
    this.#model.cleanup(age, this.#clock.now, budgetMs === undefined);
    if (budgetMs !== undefined || removed === undefined) return;
    const { tracked } = this.limiter.statistics();
    if (before - tracked !== removed)
      throw new Difference(`${removed} removed of ${before}, ${tracked} left`);
  }

  #clear(): void {
    this.#journal.note('clear');
    this.limiter.clear();
    this.#model.clear();
  }

  #fault(): void {
    const [key, query] = [this.#random.pick(this.#pool), this.#random.pick(this.subject.queries)];
    const target = { limiter: this.limiter, group: this.#group, clock: this.#clock, key, query };
    const kind = injectFault(target, this.#random);
    this.#journal.note('fault', kind, key);
    this.#tally.fault(kind);
    this.#inspect(key);
  }

  /** Compares the statistics with the model. */
  #checkpoint(): Statistics {
    const statistics = this.limiter.statistics();
    this.#journal.note('statistics', statistics);
    const model = this.#model;
    const within = (what: string, least: number, value: number, most: number) => {
      if (value >= least && value <= most) return;
      throw new Difference(`${what} is ${value}, not from ${least} to ${most}`);
    };
    const { allow, delay, disconnect } = statistics.verdicts;
    [allow, delay, disconnect].forEach((count, verdict) => {
      const expected = model.verdicts[verdict] as number;
      within(
        `verdict ${verdict}`,
        expected - model.unsureVerdicts,
        count,
        expected + model.unsureVerdicts,
      );
    });
    const lossy = statistics.lossyEvictions;
    const { peers } = statistics;
    within('peers', model.minPeerCount, peers, Math.min(this.maxPeers, model.maxPeerCount));
    within('tracked', 0, statistics.tracked, peers);
    within('evictions', 0, statistics.evictions, model.possibleEvictions);
    within('lossyEvictions', model.lossyEvictions, lossy, statistics.evictions);
    within(
      'refusedNewcomers',
      model.refusedNewcomers,
      statistics.refusedNewcomers,
      model.possibleRefusals,
    );
    within('bansBegun', model.bansBegun, statistics.bansBegun, model.bansBegun);
    within('bans announced', model.bansBegun, this.#announced, model.bansBegun);
    const [least, most] = model.violations();
    within(
      'totalViolations',
      least,
      statistics.totalViolations,
      most + MAX_QUERIES_OF_FRESH * peers,
    );
    const { memoryBytes = Number.NaN } = statistics;
    if (this.limiter.engine === 'native') {
      const mostBytes = maxMemoryBytes(this.maxPeers, model.maxPeerCount + this.#pending);
      within('memoryBytes', peers === 0 ? 0 : 1, memoryBytes, mostBytes);
    } else if (statistics.memoryBytes !== undefined) {
      throw new Difference(`memoryBytes is ${memoryBytes}, which this engine cannot measure`);
    }
    this.#compareBans(statistics);
    this.#compareViolators(statistics);
    model.bound(statistics.peers);
    return statistics;
  }

  #compareBans({ banned, unnamedOffenders }: Statistics): void {
    const { sure, possible } = this.#model.bans(this.#clock.now);
    const named = new Set(banned);
    const lost = sure.filter((key) => !named.has(key));
    if (lost.length > unnamedOffenders)
      throw new Difference(`bans missing from the statistics: ${lost.slice(0, 5)}`);
    const invented = banned.filter((key) => !possible.has(key));
    if (invented.length > 0)
      throw new Difference(`listed as banned, but not banned: ${invented.slice(0, 5)}`);
  }

  #compareViolators({ topViolators, unnamedOffenders }: Statistics): void {
    const counts = topViolators.map(([, violations]) => violations);
    if (
      counts.length > 10 ||
      counts.some((count, i) => count < 1 || count > (counts[i - 1] ?? count))
    ) {
      throw new Difference(`topViolators are ${counts}`);
    }
    this.#model.compareViolators(
      topViolators,
      this.#clock.now,
      unnamedOffenders,
      isFreshKey,
      MAX_QUERIES_OF_FRESH,
    );
  }

  #compareSnapshot() {
    const snapshot = this.limiter.snapshot();
    const { unnamedOffenders } = this.limiter.statistics();
    this.#journal.note('snapshot', snapshot.peers.length);
    this.#model.compareSnapshot(snapshot.peers, this.#clock.now, unnamedOffenders, isFreshKey);
    return snapshot;
  }

  /** Restores a limiter's own snapshot, which must change nothing. */
  #restoreOwn(): void {
    const { peers, ...head } = this.#compareSnapshot();
    // Without digests: a pending state of a stored peer would take effect once the table evicts that peer.
    const restored = this.limiter.restore({ ...head, peers, digests: [] });
    this.#journal.note('restoreOwn', restored);
    if (restored !== peers.length) throw new Difference(`${restored} of ${peers.length} restored`);
    this.#tally.snapshots += 1;
  }

  /** Restores a snapshot, converted to JSON and back, in a new limiter, perhaps of the other engine. */
  #restart(): void {
    const snapshot = this.#retire();
    const { engine, otherEngine } = this.#options;
    this.limiter = this.#create(this.#random.pick([engine, otherEngine]));
    const restored = this.limiter.restore(JSON.parse(JSON.stringify(snapshot)));
    this.#journal.note('restart', this.limiter.engine, restored);
    const named = snapshot.peers.length;
    const others = snapshot.digests.reduce((sum, { peers }) => sum + peers.length, 0);
    const hasAll = others <= this.maxPeers;
    if (hasAll ? restored !== named + others : restored < named) {
      throw new Difference(`${restored} of ${named} + ${others} restored`);
    }
    this.#pending = others;
    const before = this.#model;
    this.#model = new Model(this.subject.rules, this.maxPeers);
    this.#model.restore(before, snapshot.peers, this.#clock.now, isFreshKey, hasAll);
    this.#compareSnapshot();
    this.#tally.snapshots += 1;
  }

  /** Compares a limiter a last time and adds its totals to the tally. */
  #retire() {
    const statistics = this.#checkpoint();
    this.#tally.bans += statistics.bansBegun;
    this.#tally.evictions += statistics.evictions;
    this.#tally.lossyEvictions += statistics.lossyEvictions;
    this.#tally.refusedNewcomers += statistics.refusedNewcomers;
    return this.#compareSnapshot();
  }

  #create(engine: EngineName): LimiterAdapter {
    this.#group = undefined;
    this.#announced = 0;
    const { standIn } = this.#options;
    return standIn?.(this.subject, this.#host) ?? this.subject.create(engine, this.#host);
  }

  #listen(ban: Ban): void {
    this.#ban = ban;
    this.#announced += 1;
    if (!this.#options.throwingListener || this.#random() > 0.01) return;
    this.#tally.thrown += 1;
    this.#tally.fault('ban listener throws');
    throw new ListenerFault('the ban listener failed');
  }
}
