// A round of the differential test: random operations on both engines and on the model, with the results of each core as
// plain values.

import {
  AT_COSTS,
  AT_RANDOM,
  MAX_RULES,
  MAX_SCOPES,
  MAX_UNITS,
  RULE_NUMBERS,
  RULE_SLOTS,
  type RuleKeys,
  type RulesCore,
} from '../../dist/engine/rules.js';
import { ODD_KEYS } from '../support/limiters.js';
import { type Random, seeded } from '../support/random.js';
import { answer, plainScope, type SavedScope, saveAll } from './plain.js';
import { type BuiltPlan, buildConfig, buildPlan } from './plans.js';
import { randomScopes, randomSpec } from './random-spec.js';
import { roomsOf } from './shared-core.js';
import { type CoreName, createCore } from './subject.js';

const KEYS = ODD_KEYS.filter(({ length }) => length <= 1000);
/** Those that a shared table stores. */
const STORED_KEYS = KEYS.filter(({ length }) => length <= 128);

export interface RoundOptions {
  seed: number;
  cores: readonly CoreName[];
  /**
   * In a crowded round scopes are full. There no two peers cost the same to evict, or it would be chance which one is
   * evicted: no peer becomes fresh, each operation has an instant of its own, and all peers are compared.
   */
  isCrowded: boolean;
}

/** A call on one core, by its index, and what it returned, as plain values. */
type Operation = [name: () => string, run: (core: RulesCore, index: number) => unknown];

interface Opened {
  keys: RuleKeys;
  mask: number;
  /** The slots of each core. */
  slots: Int32Array[];
}

export class Round {
  readonly #random: Random;
  readonly #peers: number;
  readonly #names: readonly CoreName[];
  readonly #isCrowded: boolean;
  /** A shared table never goes back in time, restores digests only under its own secret, and does not store long keys. */
  readonly #isShared: boolean;
  #now: number;
  /** Peers restored by digests: a private table keeps them apart and does not count them, a shared one does. */
  #countsPeers = true;
  /** No clock steps back behind a restored snapshot: how its levels would drain then is not specified. */
  #restoredAt = 0;
  #built: BuiltPlan;
  #cores: RulesCore[] = [];
  #opened: Opened[] = [];

  constructor({ seed, cores, isCrowded }: RoundOptions) {
    this.#random = seeded(seed);
    this.#names = cores;
    this.#isCrowded = isCrowded;
    this.#isShared = cores.includes('shared');
    this.#now = this.#random() * 1e6;
    // Few peers that go far, or many.
    this.#peers = this.#random.pick(isCrowded ? [20] : [2, 10, 300]);
    const speed = isCrowded ? 1e-6 : 1;
    this.#built = buildPlan(randomSpec(this.#random, randomScopes(this.#random), speed));
    this.#create();
  }

  /** The next operation; it may return several ones. */
  next(): Operation {
    this.#moveClock();
    const dice = this.#random() * 1000;
    if (this.#isCrowded) return this.#nextCrowded(dice);
    if (dice < 500) return this.#check();
    if (dice < 700) return this.#checkOpened();
    if (dice < 740) return this.#call('peek', (core, ...call) => this.#peek(core, ...call));
    if (dice < 770) return this.#call('refund', (core, ...call) => core.refund(...call));
    if (dice < 810) return this.#call('charge', (core, ...call) => core.charge(...call));
    if (dice < 950) return this.#ofPeer();
    if (dice < 965) return this.#update();
    if (dice < 970) return this.#cleanup();
    if (dice < 985) return this.#statistics();
    if (dice < 990) return this.#restoreSome();
    if (dice < 992) return this.#moveToNewCores();
    if (dice < 992.5) return [() => 'clear', (core) => core.clear()];
    return [() => 'totals', (core) => this.#totals(core)];
  }

  #nextCrowded(dice: number): Operation {
    if (dice < 600) return this.#check();
    if (dice < 800) return this.#checkOpened();
    if (dice < 830) return this.#call('peek', (core, ...call) => this.#peek(core, ...call));
    if (dice < 880) return this.#call('charge', (core, ...call) => core.charge(...call));
    if (dice < 950) return this.#ofPeer();
    if (dice < 990) return this.#statistics();
    return [() => 'totals', (core) => this.#totals(core)];
  }

  run([name, run]: Operation): { name: () => string; results: unknown[] } {
    const now = this.#now;
    return {
      name: () => `${name()} at ${now}`,
      results: this.#cores.map((core, i) => run(core, i)),
    };
  }

  #create(): void {
    const roomForAll = this.#isShared ? 1000 : undefined;
    const config = buildConfig(
      this.#built,
      this.#isCrowded ? 1 + this.#random.below(16) : roomForAll,
    );
    this.#cores = this.#names.map((name) => createCore(name, config));
    this.#opened = [];
    for (let n = 0; n < 8; n += 1) {
      const opened: Opened = { ...this.#anyKeys(), slots: [] };
      this.#opened.push(opened);
      this.#open(opened);
    }
  }

  #open(opened: Opened): void {
    opened.slots = this.#cores.map((core) => {
      core.open(opened.keys, opened.mask);
      return RULE_SLOTS.slice();
    });
  }

  /** Mostly stands still or ticks; now and then jumps, also back. */
  #moveClock(): void {
    const random = this.#random;
    const dice = random();
    if (this.#isCrowded) this.#now += 0.001 + random() * 0.01;
    else if (dice < 0.3) this.#now += random() * 0.1;
    else if (dice < 0.35) this.#now += random() * 10;
    else if (dice < 0.355) this.#now += random() * 1000;
    else if (dice < 0.36 && !this.#isShared)
      this.#now = Math.max(this.#now - random() * 20, this.#restoredAt);
  }

  #anyKey(): string {
    const random = this.#random;
    const odd = this.#isShared ? STORED_KEYS : KEYS;
    return random() < 0.05 ? random.pick(odd) : `peer-${random.below(this.#peers)}`;
  }

  #anyKeys(): { keys: RuleKeys; mask: number } {
    const { scopes, spec } = this.#built;
    let mask = 0;
    const keys = scopes.map((scope, i) => {
      const isSingle = spec.scopes[scope] === true;
      if (!isSingle && this.#random() < 0.2) return undefined;
      mask |= 1 << i;
      return isSingle ? undefined : this.#anyKey();
    });
    return { keys, mask };
  }

  /** A scope with keys; undefined if there is none. */
  #anyScope(): number | undefined {
    const { scopes, spec } = this.#built;
    const keyed = [...scopes.keys()].filter((i) => spec.scopes[scopes[i] as string] !== true);
    return keyed.length === 0 ? undefined : this.#random.pick(keyed);
  }

  #arguments(): { program: number; numbers: Float64Array; text: () => string } {
    const random = this.#random;
    const { plans, actions } = this.#built.plan;
    const numbers = new Float64Array(RULE_NUMBERS.length);
    for (let unit = 0; unit < MAX_UNITS; unit += 1) {
      numbers[AT_COSTS + unit] = random.pick([0, 1, 1, 1, 2, 0.1, 3.7, random() * 5]);
    }
    if (random() < 0.02) {
      numbers[AT_COSTS] = random.pick([1e3, 1e17, this.#isCrowded ? 1e4 : Number.MIN_VALUE]);
    }
    for (let i = 0; i < MAX_SCOPES; i += 1) numbers[AT_RANDOM + i] = random();
    const program = random.below(plans * actions);
    return { program, numbers, text: () => `program ${program}, costs ${numbers.slice(0, 3)}` };
  }

  #call(
    name: string,
    call: (core: RulesCore, ...given: [RuleKeys, number, number, number]) => unknown,
  ): Operation {
    const { keys, mask } = this.#anyKeys();
    const { program, numbers, text } = this.#arguments();
    const now = this.#now;
    return [
      () => `${name} of ${JSON.stringify(keys)}, ${text()}`,
      (core) => {
        RULE_NUMBERS.set(numbers);
        return call(core, keys, mask, program, now);
      },
    ];
  }

  #check(): Operation {
    return this.#call('check', (core, ...call) => answer(core.check(...call)));
  }

  #checkOpened(): Operation {
    const opened = this.#random.pick(this.#opened);
    const { program, numbers, text } = this.#arguments();
    const now = this.#now;
    return [
      () => `checkPeer of ${JSON.stringify(opened.keys)}, ${text()}`,
      (core, i) => {
        const slots = opened.slots[i] as Int32Array;
        RULE_NUMBERS.set(numbers);
        RULE_SLOTS.set(slots);
        const result = answer(core.checkPeer(opened.keys, opened.mask, program, now));
        slots.set(RULE_SLOTS);
        return result;
      },
    ];
  }

  #peek(core: RulesCore, ...call: [RuleKeys, number, number, number]): unknown {
    const { answer: result, used } = core.peek(...call);
    return [answer(result), ...this.#rules().map((rule) => used[rule])];
  }

  #ofPeer(): Operation {
    const random = this.#random;
    const scope = this.#anyScope();
    if (scope === undefined) return this.#check();
    const key = this.#anyKey();
    const now = this.#now;
    const lengths = this.#isCrowded ? [1e6, Infinity] : [0.5, 3, 60, 1000, Infinity, random() * 20];
    const seconds = random.pick(lengths);
    const name = random.pick([
      ...['ban', 'unban', 'unban', 'banSecondsLeft', 'banSecondsLeft', 'violations'],
      ...['removePeer', 'longestBans'],
    ] as const);
    // A ban without anything else leaves a fresh peer when it is lifted.
    if (this.#isCrowded && name === 'unban') return this.#check();
    const most = random.pick([0, 3, 1e6]);
    const calls: Record<typeof name, (core: RulesCore) => unknown> = {
      ban: (core) => core.ban(scope, key, seconds, now),
      unban: (core) => core.unban(scope, key, now),
      banSecondsLeft: (core) => core.banSecondsLeft(scope, key, now),
      violations: (core) => core.violations(scope, key),
      removePeer: (core) => core.removePeer(scope, key),
      longestBans: (core) => core.longestBans(scope, most, now),
    };
    return [() => `${name} of ${JSON.stringify(key)} in scope ${scope}, ${seconds} s`, calls[name]];
  }

  #update(): Operation {
    const { plan } = this.#nextPlan();
    const now = this.#now;
    // An update moves the time of a limiter by one unit in the last place, unless another one has made it.
    if (this.#isShared) this.#now += 1e-6;
    return [() => `update at ${now}`, (core) => core.update(plan, now)];
  }

  /** Rules for which the records of all cores have room. */
  #nextPlan(): BuiltPlan {
    const { scopes, spec } = this.#built;
    const rooms = this.#cores.map(roomsOf);
    for (;;) {
      const next = buildPlan(randomSpec(this.#random, spec.scopes), this.#built);
      const fits = (room: number, i: number) =>
        spec.scopes[scopes[i] as string] === true || (next.plan.slots[i] as number) <= room;
      if (!rooms.every((ofScopes) => ofScopes?.every(fits) ?? true)) continue;
      this.#built = next;
      return next;
    }
  }

  #cleanup(): Operation {
    const idle = this.#random.pick([-1, 0, 0.5, 10, 100]);
    const now = this.#now;
    const countsPeers = this.#countsPeers;
    return [
      () => `cleanup of ${idle} s`,
      (core) => {
        const removed = core.cleanup(idle, Infinity, now);
        return countsPeers && removed;
      },
    ];
  }

  #statistics(): Operation {
    const scope = this.#anyScope();
    if (scope === undefined) return this.#check();
    const countsPeers = this.#countsPeers;
    return [
      () => `statistics of scope ${scope}`,
      (core) => {
        const { memoryBytes: _, peers, ...rest } = core.statistics(scope);
        return [countsPeers && peers, rest];
      },
    ];
  }

  #totals(core: RulesCore): unknown {
    const { allowed, delayed, banned, ...rules } = core.totals();
    const { checked, refused, dryRunRefused, replacedChecked, replacedRefused } = rules;
    return [
      ...[allowed, delayed, banned, ...replacedChecked, ...replacedRefused],
      ...this.#rules().map((rule) => [checked[rule], refused[rule], dryRunRefused[rule]]),
    ];
  }

  /** The indexes of all rules, as in totals. */
  #rules(): number[] {
    const { rates } = this.#built.plan;
    return [...Array(this.#built.scopes.length * MAX_RULES).keys()].filter((i) => rates[i] !== 0);
  }

  /** Offenders out of a snapshot of somebody else, among them peers that are known. */
  #restoreSome(): Operation {
    const random = this.#random;
    const scope = this.#anyScope();
    if (scope === undefined) return this.#check();
    const now = this.#now;
    const keys = [...new Set(Array.from({ length: random.below(5) }, () => this.#anyKey()))];
    const rows = keys.flatMap(() => [
      random.pick([1, 2, 50, Number.MAX_SAFE_INTEGER - random.below(3)]),
      ...[random.pick([0, 0.7, random() * 4]), random.pick([0, 1, 5])],
      random.pick([Number.NaN, 30, Infinity, random() * 100]),
      ...[random.pick([Number.NaN, 5, random() * 1000]), random.pick([0, 3, random() * 50])],
      ...Array.from({ length: MAX_RULES }, () => {
        return random.pick([Number.NaN, 0, 5, random() * 100]);
      }),
    ]);
    this.#restoredAt = now;
    const offenders = { keys, numbers: Float64Array.from(rows) };
    const text = () => `restore of ${JSON.stringify(keys)} in scope ${scope}: ${rows}`;
    return [text, (core) => core.restore(scope, offenders, now)];
  }

  /** Snapshots of all cores, and new cores that restore them: each engine that of the other one. */
  #moveToNewCores(): Operation {
    const now = this.#now;
    this.#restoredAt = now;
    this.#countsPeers = !this.#isShared;
    const saved = this.#cores.map((core) => saveAll(core, this.#built, now));
    const plain = saved.map((scopes) => scopes.map(plainScope));
    this.#create();
    const isAdopted = this.#isShared || this.#random() < 0.5;
    const engines = this.#names.filter((name) => name !== 'model').length;
    return [
      () => `restore into new cores${isAdopted ? ' with the secret' : ''}`,
      (core, i) => {
        const scopes = saved[i < engines ? (i + 1) % engines : i] as SavedScope[];
        const [secret] = scopes.flatMap(({ digests }) => digests.map(({ secret }) => secret));
        if (isAdopted && secret !== undefined) core.adopt(secret);
        if (isAdopted) for (const opened of this.#opened) this.#open(opened);
        const restored = scopes.map(({ offenders, digests, single }, scope) => [
          single !== undefined && core.restoreSingle(scope, single, now),
          offenders.reduce((sum, rows) => sum + core.restore(scope, rows, now), 0),
          digests.reduce((sum, rows) => sum + core.restoreDigests(scope, rows, now), 0),
        ]);
        return [plain[i], restored];
      },
    ];
  }
}
