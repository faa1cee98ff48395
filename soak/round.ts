// One round: a limiter of random options, a hostile mix of calls on it, and the reference model beside
// it, which every answer must agree with.

import type { Ban, EngineName, PeerGroup } from 'relay-limiter';
import { type Random, seeded } from '../test/support/random.js';
import { VirtualClock } from './clock.js';
import { injectFault } from './faults.js';
import { FreshKeys, isFreshKey, MOST_ASKED_FRESH, poolOfKeys } from './keys.js';
import { mostMemoryBytes } from './memory.js';
import { Difference, Model, violationsOf } from './model/model.js';
import type { Question } from './model/rules.js';
import { type Asked, type Host, type Statistics, SUBJECTS, type Subject } from './subjects.js';
import type { Tally } from './tally.js';

const MAX_PEERS = [1, 2, 16, 17, 100, 1000, 20_000, Infinity];
const AGES = [-1, 0, 1, 30, 3600, Infinity];
/** Calls that are told when something went wrong. */
const REMEMBERED = 30;

/** What the listener of bans throws now and then. */
export class ListenerFault extends Error {}

export interface RoundOptions {
  readonly seed: number;
  readonly engine: EngineName;
  /** Where restarts go as well; the same as `engine` to stay. */
  readonly otherEngine: EngineName;
  /** Whether the listener of bans throws now and then; each time `tally.thrown` counts it. */
  readonly throwingListener: boolean;
  /** What is asked in place of the subject's own limiter: for tests of the soak. */
  readonly standIn?: (subject: Subject, host: Host) => Asked;
}

export class Round {
  readonly subject: Subject;
  readonly maxPeers: number;
  asked: Asked;

  readonly #options: RoundOptions;
  readonly #tally: Tally;
  readonly #random: Random;
  readonly #clock: VirtualClock;
  readonly #pool: readonly string[];
  readonly #fresh: FreshKeys;
  #model: Model;
  readonly #host: Host;
  /** The last calls, oldest first from `#calls % REMEMBERED` on. */
  readonly #journal: unknown[][] = [];
  #calls = 0;
  #group: PeerGroup | undefined;
  /** Peers that the limiter was given under digests. */
  #awaited = 0;
  #ban: Ban | undefined;
  /** Bans the listener heard of, of this limiter. */
  #announced = 0;

  constructor(options: RoundOptions, tally: Tally) {
    this.#options = options;
    this.#tally = tally;
    this.#random = seeded(options.seed);
    this.subject = this.#random.pick(SUBJECTS)(this.#random);
    this.maxPeers = this.#random.pick(MAX_PEERS);
    this.#clock = new VirtualClock(this.#random() * 1e6);
    this.#pool = poolOfKeys(this.#random);
    this.#fresh = new FreshKeys(this.#random);
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
    this.asked = this.#create(options.engine);
  }

  /** At least so many operations. @throws Difference, and what the limiter should not throw. */
  run(operations: number): void {
    const end = this.#tally.operations + operations;
    while (this.#tally.operations < end) {
      this.#clock.move(this.#random);
      this.#step();
    }
  }

  /** The last look, and one at what a restart makes of it. @throws Difference */
  end(): void {
    this.#restart();
    this.#checkpoint();
    this.#tally.keys += this.#pool.length + this.#fresh.count;
  }

  /** The last calls and the state of things, for people. */
  story(): string {
    const calls = this.#journal.map((_, i) => this.#journal[(this.#calls + i) % REMEMBERED]);
    const lines = calls.map((call) => `  ${JSON.stringify(call, shorten)}`);
    const { name } = this.subject;
    return `${name} on ${this.asked.engine}, maxPeers ${this.maxPeers}\n${lines.join('\n')}`;
  }

  #step(): void {
    const random = this.#random;
    const dice = random();
    if (dice < 0.75) this.#ask(random.pick(this.#pool), random.pick(this.subject.questions));
    else if (dice < 0.88) this.#rotateNick();
    else if (dice < 0.96) this.#look(random.pick(this.#pool));
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

  #ask(key: string, question: Question): void {
    const { now } = this.#clock;
    const opened = !isFreshKey(key) && this.#random() < 0.3;
    const answer = opened ? this.asked.askOpened(key, question) : this.asked.ask(key, question);
    this.#note(opened ? 'askOpened' : 'ask', key, question, answer);
    this.#model.ask(key, question, now, answer, (outcome) => outcome.answer);
  }

  /** A name for one errand. */
  #rotateNick(): void {
    const key = this.#fresh.next();
    const times = 1 + this.#random.below(MOST_ASKED_FRESH);
    for (let n = 0; n < times; n += 1) this.#ask(key, this.#random.pick(this.subject.questions));
    this.#model.letGo(key);
  }

  #flood(): void {
    const times = 200 + this.#random.below(2000);
    const question = this.#random.pick(this.subject.questions);
    for (let n = 0; n < times; n += 1) {
      const key = this.#fresh.next();
      this.#ask(key, question);
      this.#model.letGo(key);
    }
  }

  #look(key: string): void {
    const { now } = this.#clock;
    const violations = this.asked.violations(key);
    this.#note('violations', key, violations);
    this.#model.observe(key, 'violations', now, violations, violationsOf);
    const { rules } = this.subject;
    for (const what of ['tokens', 'delay'] as const) {
      const [said, rule] = [this.asked[what]?.(key), rules[what]];
      if (said !== undefined && rule !== undefined) this.#model.observe(key, what, now, said, rule);
    }
  }

  #remove(key: string): void {
    this.#note('remove', key);
    this.asked.remove(key);
    this.#model.remove(key);
  }

  #checkGroup(): void {
    const { asked, subject } = this;
    if (asked.group === undefined) return;
    this.#group ??= asked.group([]);
    for (let n = this.#random.below(20); n > 0; n -= 1) {
      const key = this.#random.pick(this.#pool);
      if (this.#random() < 0.7) this.#group.add(key);
      else this.#group.delete(key);
    }
    const questions = subject.questions.filter(({ ask }) => ask === 'tokens');
    const question = this.#random.pick(questions) as Question & { ask: 'tokens' };
    // The clock is the caller's code: it may change the very table that is asked.
    const leaves = this.#random.pick(this.#pool);
    this.#clock.failOnce(() => {
      asked.remove(leaves);
      return this.#clock.now;
    });
    const verdicts = this.#group.check(question.cost);
    this.#note('group', question.cost, 'without', leaves, [...this.#group.keys()].length);
    this.#model.remove(leaves);
    let member = 0;
    for (const key of this.#group.keys()) {
      const verdict = verdicts[member] as number;
      this.#model.ask(key, question, this.#clock.now, verdict, (outcome) => outcome.verdict);
      member += 1;
    }
    this.#tally.operations += member;
  }

  #cleanup(budgetMs: number | undefined): void {
    const age = this.#random.pick(AGES);
    const before = budgetMs === undefined ? this.asked.statistics().tracked : 0;
    const removed = this.asked.cleanup(age, budgetMs);
    this.#note('cleanup', age, budgetMs, removed);
    this.#model.cleanup(age, this.#clock.now, budgetMs === undefined);
    if (budgetMs !== undefined || removed === undefined) return;
    const { tracked } = this.asked.statistics();
    if (before - tracked !== removed)
      throw new Difference(`${removed} removed of ${before}, ${tracked} left`);
  }

  #clear(): void {
    this.#note('clear');
    this.asked.clear();
    this.#model.clear();
  }

  #fault(): void {
    const [key, question] = [
      this.#random.pick(this.#pool),
      this.#random.pick(this.subject.questions),
    ];
    const target = { asked: this.asked, group: this.#group, clock: this.#clock, key, question };
    const kind = injectFault(target, this.#random);
    this.#note('fault', kind, key);
    this.#tally.fault(kind);
    this.#look(key);
  }

  /** What statistics say, against the model. */
  #checkpoint(): Statistics {
    const statistics = this.asked.statistics();
    this.#note('statistics', statistics);
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
    within('peers', model.leastPeers, peers, Math.min(this.maxPeers, model.mostPeers));
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
    within('totalViolations', least, statistics.totalViolations, most + MOST_ASKED_FRESH * peers);
    const { memoryBytes = Number.NaN } = statistics;
    if (this.asked.engine === 'native') {
      const mostBytes = mostMemoryBytes(this.maxPeers, model.mostPeers + this.#awaited);
      within('memoryBytes', peers === 0 ? 0 : 1, memoryBytes, mostBytes);
    } else if (statistics.memoryBytes !== undefined) {
      throw new Difference(`memoryBytes is ${memoryBytes}, which this engine cannot know`);
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
    if (lost.length > unnamedOffenders) throw new Difference(`bans not named: ${lost.slice(0, 5)}`);
    const invented = banned.filter((key) => !possible.has(key));
    if (invented.length > 0) throw new Difference(`no bans: ${invented.slice(0, 5)}`);
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
      MOST_ASKED_FRESH,
    );
  }

  #compareSnapshot() {
    const snapshot = this.asked.snapshot();
    const { unnamedOffenders } = this.asked.statistics();
    this.#note('snapshot', snapshot.peers.length);
    this.#model.compareSnapshot(snapshot.peers, this.#clock.now, unnamedOffenders, isFreshKey);
    return snapshot;
  }

  /** What a limiter knows already changes nothing. */
  #restoreOwn(): void {
    const { peers, ...head } = this.#compareSnapshot();
    // Without digests: what waits of a known peer would count once that peer is evicted.
    const restored = this.asked.restore({ ...head, peers, digests: [] });
    this.#note('restoreOwn', restored);
    if (restored !== peers.length) throw new Difference(`${restored} of ${peers.length} restored`);
    this.#tally.snapshots += 1;
  }

  /** Into a new limiter, perhaps of the other engine, as through a file. */
  #restart(): void {
    const snapshot = this.#retire();
    const { engine, otherEngine } = this.#options;
    this.asked = this.#create(this.#random.pick([engine, otherEngine]));
    const restored = this.asked.restore(JSON.parse(JSON.stringify(snapshot)));
    this.#note('restart', this.asked.engine, restored);
    const named = snapshot.peers.length;
    const others = snapshot.digests.reduce((sum, { peers }) => sum + peers.length, 0);
    const hasAll = others <= this.maxPeers;
    if (hasAll ? restored !== named + others : restored < named) {
      throw new Difference(`${restored} of ${named} + ${others} restored`);
    }
    this.#awaited = others;
    const before = this.#model;
    this.#model = new Model(this.subject.rules, this.maxPeers);
    this.#model.restore(before, snapshot.peers, this.#clock.now, isFreshKey, hasAll);
    this.#compareSnapshot();
    this.#tally.snapshots += 1;
  }

  /** A limiter's last look, and its totals. */
  #retire() {
    const statistics = this.#checkpoint();
    this.#tally.bans += statistics.bansBegun;
    this.#tally.evictions += statistics.evictions;
    this.#tally.lossyEvictions += statistics.lossyEvictions;
    this.#tally.refusedNewcomers += statistics.refusedNewcomers;
    return this.#compareSnapshot();
  }

  #create(engine: EngineName): Asked {
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
    throw new ListenerFault('the listener of bans broke');
  }

  #note(...call: unknown[]): void {
    this.#journal[this.#calls % REMEMBERED] = call;
    this.#calls += 1;
    this.#tally.operations += 1;
  }
}

function shorten(_: string, value: unknown): unknown {
  if (typeof value === 'string' && value.length > 60)
    return `${value.slice(0, 60)} ... (${value.length})`;
  if (typeof value === 'number' && !Number.isFinite(value)) return String(value);
  return Array.isArray(value) && value.length > 12 ? `${value.length} elements` : value;
}
