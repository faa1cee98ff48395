// RulesModel is a RulesCore written from its specification as plainly as possible: objects in Maps, every rule of the
// specification once, no tables and no bounded search. It shares no code with the engines.

import type { BansInForce } from '../../dist/common/types.js';
import {
  AT_BAN_RULE,
  AT_BAN_SECONDS,
  AT_BEGUN,
  AT_COSTS,
  AT_DELAY,
  AT_RANDOM,
  AT_RULE,
  AT_SCOPE,
  AT_VIOLATIONS,
  AT_WARNING,
  COUNTS_VIOLATION,
  DRY_RUN,
  MAX_RULES,
  MAX_USED,
  RATE_CHANGES,
  RULE_BANNED,
  RULE_DELAYED,
  RULE_DIGEST_NUMBERS,
  RULE_NO_ROOM,
  RULE_NUMBERS,
  RULE_OFFENDER_NUMBERS,
  RULE_WARNED,
  type RuleAnswer,
  type RuleDigestColumns,
  type RuleKeys,
  type RuleOffenderColumns,
  type RulePlan,
  type RuleSnapshotStep,
  type RulesConfig,
  type RulesCore,
  type RuleTotals,
} from '../../dist/engine/rules.js';

interface Peer {
  key: string;
  /** The instant of the last refill, and how many updates there had been by then. */
  at: number;
  updates: number;
  used: number[];
  violations: number;
  /** Orders peers by their first violation. */
  order: number;
  level: number;
  levelAt: number;
  banLevel: number;
  /** The end of the last ban, in force or over. */
  banEnd: number;
}

interface Scope {
  index: number;
  isSingle: boolean;
  /** The state of a single scope. */
  state: Peer;
  peers: Map<string, Peer>;
  pending: Map<string, Peer>;
  /** For each slot: how many updates there had been when its rule was added. */
  since: number[];
  bansBegun: number;
  evictions: number;
  lossyEvictions: number;
  refusedNewcomers: number;
}

/** The time before `until`, back to the era before it. */
interface Era {
  until: number;
  rates: Float64Array;
  /** The index that each plan had in this era. */
  planThen: number[];
}

/** A scope with applying rules in a check, and the state of its peer. */
interface Asked {
  scope: Scope;
  peer: Peer;
  isStored: boolean;
  slots: number[];
}

interface Refusal {
  asked: Asked;
  slot: number;
  delay: number;
  rank: number;
  isViolation: boolean;
}

interface Decision {
  asked: Asked[];
  refusals: Refusal[];
  dryRunAllowed: [asked: Asked, slot: number][];
  dryRunRefused: number[];
}

/** An instant before any other: it has never happened. */
const NEVER = -Infinity;
/** A slot that is fresh within so many seconds is not saved. */
const SNAPSHOT_SECONDS = 10;
const MAX_VIOLATIONS = Number.MAX_SAFE_INTEGER;

export class RulesModel implements RulesCore {
  readonly secretVersion = 0;
  readonly #maxPeers: number;
  readonly #scopes: Scope[];
  #plan: RulePlan;
  #eras: Era[] = [];
  #updates = 0;
  /** The time is never earlier: an instant later than the last update with added rules. */
  #earliest = Number.NEGATIVE_INFINITY;
  #latest = Number.NEGATIVE_INFINITY;
  #lastOrder = 0;
  readonly #totals: RuleTotals;

  constructor({ maxPeers, single, plan }: RulesConfig) {
    this.#maxPeers = maxPeers;
    this.#plan = plan;
    this.#scopes = single.map((isSingle, index) => ({
      ...{ index, isSingle, state: freshPeer('', NEVER, 0), peers: new Map(), pending: new Map() },
      since: new Array(MAX_RULES).fill(0),
      ...{ bansBegun: 0, evictions: 0, lossyEvictions: 0, refusedNewcomers: 0 },
    }));
    const counts = () => new Float64Array(single.length * MAX_RULES);
    this.#totals = {
      ...{ allowed: 0, delayed: 0, banned: 0 },
      ...{ checked: counts(), refused: counts(), dryRunRefused: counts() },
    };
  }

  update(plan: RulePlan, now?: number): void {
    const time = this.#time(now);
    const before = this.#plan;
    this.#plan = plan;
    this.#updates += 1;
    const origins = [...plan.origins].slice(0, plan.plans);
    const width = this.#scopes.length * MAX_RULES;
    const isChanged = origins.some((origin, p) => {
      for (let i = 0; i < width; i += 1) {
        if (plan.rates[p * width + i] !== before.rates[origin * width + i]) return true;
      }
      return false;
    });
    for (const era of this.#eras) {
      era.planThen = origins.map((origin) => era.planThen[origin] as number);
    }
    if (isChanged) this.#eras.push({ until: time, rates: before.rates, planThen: origins });
    this.#eras = this.#eras.slice(-RATE_CHANGES);
    for (const scope of this.#scopes) {
      for (let slot = 0; slot < MAX_RULES; slot += 1) {
        if (!hasBit(plan.added[scope.index], slot)) continue;
        scope.since[slot] = this.#updates;
        const rule = scope.index * MAX_RULES + slot;
        for (const counts of this.#ruleCounts()) counts[rule] = 0;
      }
    }
    // If the clock has stepped back, there are records from a later time, and they are older than these rules too.
    if (plan.added.some((bits) => bits !== 0)) this.#earliest = nextUp(this.#latest);
  }

  check(keys: RuleKeys, mask: number, program: number, now?: number): RuleAnswer | undefined {
    const time = this.#time(now);
    if (this.#answerBan(keys, mask, time)) {
      this.#totals.banned += 1;
      return RULE_BANNED;
    }
    const decision = this.#decide(keys, mask, program, time, (peer) => peer);
    for (const { scope, slots } of decision.asked) {
      for (const slot of slots) count(this.#totals.checked, scope.index * MAX_RULES + slot);
    }
    return decision.refusals.length === 0
      ? this.#allow(decision, program, time)
      : this.#refuse(decision, time);
  }

  checkPeer(keys: RuleKeys, mask: number, program: number, now?: number): RuleAnswer | undefined {
    return this.check(keys, mask, program, now);
  }

  open(): void {}

  peek(keys: RuleKeys, mask: number, program: number, now?: number) {
    const time = this.#time(now);
    const used = new Float64Array(this.#scopes.length * MAX_RULES);
    const plan = this.#planOf(program);
    for (const scope of this.#asked(mask)) {
      const peer = copyOf(this.#find(scope, keys) ?? this.#fresh(keys, scope, time));
      this.#refill(scope, peer, plan, time);
      used.set(peer.used, scope.index * MAX_RULES);
    }
    if (this.#answerBan(keys, mask, time)) return { answer: RULE_BANNED, used } as const;
    const decision = this.#decide(keys, mask, program, time, (peer) => copyOf(peer));
    if (decision.refusals.length > 0) {
      this.#answerDelay(decision.refusals);
      return { answer: RULE_DELAYED, used } as const;
    }
    this.#charge(decision.asked);
    return { answer: this.#answerWarning(decision.asked, plan), used };
  }

  refund(keys: RuleKeys, mask: number, program: number, now?: number): void {
    const { asked } = this.#decide(keys, mask, program, this.#time(now), (peer) => peer);
    for (const one of asked) {
      for (const slot of one.slots) {
        if (this.#isDryRun(one.scope, slot)) continue;
        const left = (one.peer.used[slot] as number) - this.#cost(one.scope, slot);
        one.peer.used[slot] = left > 0 ? left : 0;
      }
    }
  }

  charge(keys: RuleKeys, mask: number, program: number, now?: number): void {
    const time = this.#time(now);
    const { asked } = this.#decide(keys, mask, program, time, (peer) => peer);
    for (const one of asked) {
      if (!this.#takesSomething(one) || this.#store(one, time)) this.#charge([one]);
    }
  }

  ban(scope: number, key: string, seconds: number, now?: number): boolean {
    const time = this.#time(now);
    const peer = this.#findOrStore(this.#scope(scope), key, time);
    if (peer === undefined) return false;
    peer.banEnd = Math.max(peer.banEnd, time + seconds);
    return true;
  }

  unban(scope: number, key: string, now?: number): boolean {
    const time = this.#time(now);
    const peer = this.#scope(scope).peers.get(key);
    if (peer === undefined || !(time < peer.banEnd)) return false;
    peer.banEnd = time;
    return true;
  }

  banSecondsLeft(scope: number, key: string, now?: number): number {
    const time = this.#time(now);
    const end = this.#scope(scope).peers.get(key)?.banEnd ?? NEVER;
    return time < end ? end - time : 0;
  }

  longestBans(scope: number, most: number, now?: number): BansInForce {
    const time = this.#time(now);
    const banned = [...this.#scope(scope).peers.values()].filter(({ banEnd }) => time < banEnd);
    const bans = banned.map(({ key, banEnd }): [string, number] => [key, banEnd - time]);
    bans.sort(([, a], [, b]) => (a === b ? 0 : b - a));
    return { count: bans.length, bans: bans.slice(0, most) };
  }

  violations(scope: number, key: string): number {
    return this.#scope(scope).peers.get(key)?.violations ?? 0;
  }

  removePeer(scope: number, key: string): void {
    this.#scope(scope).peers.delete(key);
    this.#scope(scope).pending.delete(key);
  }

  cleanup(maxIdle: number, _: number, now?: number): number {
    const time = this.#time(now);
    let removed = 0;
    for (const scope of this.#scopes) {
      for (const peer of [...scope.peers.values()]) {
        if (!(elapsed(time, peer.at) > maxIdle) || time < peer.banEnd) continue;
        if (this.#secondsUntilFresh(scope, peer, time) > 0) continue;
        if (this.#isRemembered(scope, peer, time)) continue;
        scope.peers.delete(peer.key);
        removed += 1;
      }
      for (const peer of [...scope.pending.values()]) {
        const isFresh = this.#secondsUntilFresh(scope, peer, time) === 0;
        if (elapsed(time, peer.at) > maxIdle && isFresh) scope.pending.delete(peer.key);
      }
    }
    return removed;
  }

  isCleaning(): boolean {
    return false;
  }

  totals(): RuleTotals {
    return structuredClone(this.#totals);
  }

  statistics(index: number) {
    const scope = this.#scope(index);
    const violators = [...scope.peers.values()].filter(({ violations }) => violations > 0);
    violators.sort((a, b) => b.violations - a.violations || a.order - b.order);
    const { bansBegun, evictions, lossyEvictions, refusedNewcomers } = scope;
    const total = violators.reduce((sum, { violations }) => sum + BigInt(violations), 0n);
    return {
      peers: scope.peers.size,
      totalViolations: Math.min(Number(total), MAX_VIOLATIONS),
      unnamedOffenders: 0,
      topViolators: violators
        .slice(0, 10)
        .map(({ key, violations }): [string, number] => [key, violations]),
      ...{ bansBegun, evictions, lossyEvictions, refusedNewcomers },
    };
  }

  *snapshot(index: number, _: number, now: () => number): Generator<RuleSnapshotStep> {
    const scope = this.#scope(index);
    const time = this.#time(now());
    const isOffender = (peer: Peer) => peer.violations > 0 || time < peer.banEnd;
    const offenders = [...scope.peers.values()].filter(isOffender);
    const rank = ({ violations, order }: Peer) => (violations > 0 ? order : Infinity);
    offenders.sort((a, b) => (rank(a) === rank(b) ? 0 : rank(a) - rank(b)));
    const numbers = offenders.flatMap((peer) => {
      const isBanned = time < peer.banEnd;
      const sinceBan = isBanned || peer.banEnd === NEVER ? Number.NaN : time - peer.banEnd;
      return [
        ...[peer.violations, this.#level(scope, peer, time), peer.banLevel],
        ...[isBanned ? peer.banEnd - time : Number.NaN, sinceBan, elapsed(time, peer.at)],
        ...this.#savedUsed(scope, peer, time),
      ];
    });
    const others = [...scope.pending.values(), ...scope.peers.values()].filter((peer) => {
      const used = this.#savedUsed(scope, peer, time);
      return !isOffender(peer) && used.some((saved) => !Number.isNaN(saved));
    });
    const digestNumbers = others.flatMap((peer) => [
      elapsed(time, peer.at),
      ...this.#savedUsed(scope, peer, time),
    ]);
    yield {
      offenders: { keys: offenders.map(({ key }) => key), numbers: Float64Array.from(numbers) },
      digests: {
        secret: new Uint32Array(4),
        digests: Uint32Array.from(others.flatMap(({ key }) => [internedKey(key), 0, 0, 0])),
        numbers: Float64Array.from(digestNumbers),
      },
    };
  }

  restore(index: number, { keys, numbers }: RuleOffenderColumns, now?: number): number {
    const time = this.#time(now);
    const scope = this.#scope(index);
    let restored = 0;
    for (const [i, key] of keys.entries()) {
      const row = numbers.subarray(i * RULE_OFFENDER_NUMBERS, (i + 1) * RULE_OFFENDER_NUMBERS);
      const [violations, level, banLevel, banLeft, sinceBan, idle, ...used] = row as unknown as [
        ...[number, number, number, number, number, number],
        ...number[],
      ];
      const saved = this.#savedPeer(scope, key, idle, used, time);
      saved.violations = violations;
      saved.level = level;
      saved.levelAt = time;
      saved.banLevel = banLevel;
      if (!Number.isNaN(banLeft)) saved.banEnd = time + banLeft;
      else if (!Number.isNaN(sinceBan)) saved.banEnd = time - sinceBan;
      const known = scope.peers.get(key);
      if (known !== undefined) {
        this.#merge(scope, known, saved, time);
        restored += 1;
      } else if (this.#makeRoom(scope, time, this.#evictionCost(scope, saved, time))) {
        scope.peers.set(key, saved);
        const pending = scope.pending.get(key);
        if (pending !== undefined) this.#mergeUsed(scope, saved, pending, time);
        scope.pending.delete(key);
        if (violations > 0) saved.order = this.#lastOrder += 1;
        restored += 1;
      }
    }
    return restored;
  }

  adopt(): void {}

  restoreDigests(index: number, { digests, numbers }: RuleDigestColumns, now?: number): number {
    const time = this.#time(now);
    const scope = this.#scope(index);
    const peers = digests.length / 4;
    for (let i = 0; i < peers; i += 1) {
      const key = KEYS[digests[i * 4] as number] as string;
      const row = numbers.subarray(i * RULE_DIGEST_NUMBERS, (i + 1) * RULE_DIGEST_NUMBERS);
      const [idle, ...used] = row as unknown as [number, ...number[]];
      scope.pending.set(key, this.#savedPeer(scope, key, idle, used, time));
    }
    return peers;
  }

  clear(): void {
    for (const scope of this.#scopes) {
      scope.peers.clear();
      scope.pending.clear();
      scope.state = freshPeer('', NEVER, this.#updates);
    }
  }

  #time(now: number | undefined): number {
    const time = Math.max(now ?? performance.now() / 1000, this.#earliest);
    this.#latest = Math.max(this.#latest, time);
    return time;
  }

  #scope(index: number): Scope {
    return this.#scopes[index] as Scope;
  }

  #asked(mask: number): Scope[] {
    return this.#scopes.filter(({ index }) => hasBit(mask, index));
  }

  #planOf(program: number): number {
    return Math.floor(program / this.#plan.actions);
  }

  #find(scope: Scope, keys: RuleKeys): Peer | undefined {
    if (scope.isSingle) return scope.state;
    const key = keys[scope.index] as string;
    return scope.peers.get(key) ?? scope.pending.get(key);
  }

  #fresh(keys: RuleKeys, scope: Scope, time: number): Peer {
    return freshPeer(keys[scope.index] as string, time, this.#updates);
  }

  #rule(scope: Scope, slot: number, plan = 0): number {
    return (plan * this.#scopes.length + scope.index) * MAX_RULES + slot;
  }

  #isDryRun(scope: Scope, slot: number): boolean {
    return ((this.#plan.flags[this.#rule(scope, slot)] as number) & DRY_RUN) !== 0;
  }

  #cost(scope: Scope, slot: number): number {
    const unit = this.#plan.units[this.#rule(scope, slot)] as number;
    return RULE_NUMBERS[AT_COSTS + unit] as number;
  }

  #ruleCounts(): Float64Array[] {
    return [this.#totals.checked, this.#totals.refused, this.#totals.dryRunRefused];
  }

  #refill(scope: Scope, peer: Peer, plan: number, time: number): void {
    for (let slot = 0; slot < MAX_RULES; slot += 1) {
      if (peer.updates < (scope.since[slot] as number)) peer.used[slot] = 0;
    }
    peer.updates = this.#updates;
    const drain = (seconds: number, rates: Float64Array, p: number) => {
      peer.used = peer.used.map((used, slot) => {
        const left = used - seconds * (rates[this.#rule(scope, slot, p)] as number);
        return left > 0 ? left : 0;
      });
    };
    for (const { until, rates, planThen } of this.#eras) {
      const end = Math.min(until, time);
      if (!(end > peer.at)) continue;
      drain(elapsed(end, peer.at), rates, planThen[plan] as number);
      peer.at = end;
    }
    drain(elapsed(time, peer.at), this.#plan.rates, plan);
    peer.at = Math.max(peer.at, time);
  }

  /** Asks all rules. `own` returns the peer that is refilled for it: the stored one, or a copy. */
  #decide(
    keys: RuleKeys,
    mask: number,
    program: number,
    time: number,
    own: (peer: Peer) => Peer,
  ): Decision {
    const plan = this.#planOf(program);
    const decision: Decision = { asked: [], refusals: [], dryRunAllowed: [], dryRunRefused: [] };
    for (const scope of this.#asked(mask)) {
      const bits = this.#plan.applies[program * this.#scopes.length + scope.index];
      const slots = [...Array(MAX_RULES).keys()].filter((slot) => hasBit(bits, slot));
      if (slots.length === 0) continue;
      const found = this.#find(scope, keys);
      const peer = found === undefined ? this.#fresh(keys, scope, time) : own(found);
      const isStored = scope.isSingle || scope.peers.has(peer.key);
      this.#refill(scope, peer, plan, time);
      const asked = { scope, peer, isStored, slots };
      decision.asked.push(asked);
      for (const slot of slots) this.#askRule(decision, asked, slot, plan);
    }
    return decision;
  }

  #askRule(decision: Decision, asked: Asked, slot: number, plan: number): void {
    const { scope, peer } = asked;
    const cost = this.#cost(scope, slot);
    const index = this.#rule(scope, slot, plan);
    const burst = this.#plan.bursts[index] as number;
    const used = peer.used[slot] as number;
    const allows = used + cost <= burst;
    if (this.#isDryRun(scope, slot)) {
      if (allows) decision.dryRunAllowed.push([asked, slot]);
      else decision.dryRunRefused.push(this.#rule(scope, slot));
    } else if (!allows) {
      const rule = this.#rule(scope, slot);
      const counts = ((this.#plan.flags[rule] as number) & COUNTS_VIOLATION) !== 0;
      decision.refusals.push({
        ...{ asked, slot, rank: this.#plan.ranks[rule] as number },
        delay: delaySeconds(used, cost, burst, this.#plan.rates[index] as number),
        isViolation: counts && cost > 0 && !scope.isSingle,
      });
    }
  }

  /** Writes the results of the longest ban in force; false if there is none. */
  #answerBan(keys: RuleKeys, mask: number, time: number): boolean {
    let longest: Peer | undefined;
    for (const scope of this.#asked(mask)) {
      const peer = scope.isSingle ? undefined : this.#find(scope, keys);
      if (peer === undefined || !(time < peer.banEnd)) continue;
      if (longest !== undefined && !(peer.banEnd - time > longest.banEnd - time)) continue;
      longest = peer;
      write({ [AT_DELAY]: peer.banEnd - time, [AT_RULE]: -1, [AT_SCOPE]: scope.index });
      write({ [AT_BEGUN]: 0 });
    }
    return longest !== undefined;
  }

  #answerDelay(refusals: Refusal[]): Refusal {
    const longest = longestOf(refusals);
    const { scope } = longest.asked;
    write({ [AT_DELAY]: longest.delay, [AT_RULE]: this.#rule(scope, longest.slot) });
    write({ [AT_SCOPE]: scope.index });
    return longest;
  }

  #answerWarning(asked: Asked[], plan: number): RuleAnswer | undefined {
    let smallest: { share: number; rank: number } | undefined;
    for (const { scope, peer, slots } of asked) {
      for (const slot of slots) {
        if (this.#isDryRun(scope, slot)) continue;
        const index = this.#rule(scope, slot, plan);
        const burst = this.#plan.bursts[index] as number;
        const share = (burst - (peer.used[slot] as number)) / burst;
        const rank = this.#plan.ranks[this.#rule(scope, slot)] as number;
        if (!(share < (this.#plan.warnings[index] as number))) continue;
        if (smallest !== undefined) {
          if (share > smallest.share || (share === smallest.share && rank > smallest.rank))
            continue;
        }
        smallest = { share, rank };
        write({ [AT_WARNING]: this.#rule(scope, slot) });
      }
    }
    if (smallest === undefined) return undefined;
    write({ [AT_DELAY]: 0, [AT_RULE]: -1, [AT_SCOPE]: -1 });
    return RULE_WARNED;
  }

  #allow(decision: Decision, program: number, time: number): RuleAnswer | undefined {
    const { asked, dryRunAllowed, dryRunRefused } = decision;
    const newcomers = asked.filter((one) => {
      const isCharged = dryRunAllowed.some(
        ([other, slot]) => other === one && this.#cost(one.scope, slot) > 0,
      );
      return !one.isStored && (this.#takesSomething(one) || isCharged);
    });
    const full = newcomers.find(({ scope }) => !this.#hasRoom(scope, time));
    if (full !== undefined) {
      this.#totals.delayed += 1;
      full.scope.refusedNewcomers += 1;
      write({ [AT_DELAY]: 1, [AT_RULE]: -1, [AT_SCOPE]: full.scope.index });
      return RULE_NO_ROOM;
    }
    for (const one of newcomers) this.#store(one, time);
    this.#chargeDryRun(dryRunAllowed, dryRunRefused);
    this.#charge(asked);
    this.#totals.allowed += 1;
    return this.#answerWarning(asked, this.#planOf(program));
  }

  #refuse({ refusals, dryRunAllowed, dryRunRefused, asked }: Decision, time: number): RuleAnswer {
    for (const { asked, slot } of refusals) {
      count(this.#totals.refused, this.#rule(asked.scope, slot));
    }
    this.#answerDelay(refusals);
    const begun: { scope: Scope; seconds: number; slot: number }[] = [];
    write({ [AT_BEGUN]: 0 });
    for (const one of asked) {
      const violating = refusals.filter((refusal) => refusal.asked === one && refusal.isViolation);
      const dryRun = dryRunAllowed.filter(
        ([other, slot]) => other === one && this.#cost(one.scope, slot) > 0,
      );
      if (violating.length === 0 && dryRun.length === 0) continue;
      if (!this.#store(one, time)) {
        one.scope.refusedNewcomers += 1;
        continue;
      }
      this.#chargeDryRun(dryRun, []);
      if (violating.length === 0) continue;
      const seconds = this.#addViolation(one, time);
      if (seconds === undefined) continue;
      const { slot } = longestOf(violating);
      const { index } = one.scope;
      begun.push({ scope: one.scope, seconds, slot });
      write({ [AT_BEGUN]: (RULE_NUMBERS[AT_BEGUN] as number) | (1 << index) });
      write({ [AT_BAN_SECONDS + index]: seconds, [AT_BAN_RULE + index]: slot });
      write({ [AT_VIOLATIONS + index]: one.peer.violations });
    }
    this.#chargeDryRun([], dryRunRefused);
    const [first, ...others] = begun;
    if (first === undefined) {
      this.#totals.delayed += 1;
      return RULE_DELAYED;
    }
    const longest = others.reduce((a, b) => (b.seconds > a.seconds ? b : a), first);
    write({ [AT_DELAY]: longest.seconds, [AT_SCOPE]: longest.scope.index });
    write({ [AT_RULE]: this.#rule(longest.scope, longest.slot) });
    this.#totals.banned += 1;
    return RULE_BANNED;
  }

  /** Returns the length of the ban that begins, or undefined. */
  #addViolation({ scope, peer }: Asked, time: number): number | undefined {
    if (peer.violations === 0) peer.order = this.#lastOrder += 1;
    peer.violations = Math.min(peer.violations + 1, MAX_VIOLATIONS);
    const policy = this.#plan.bans[scope.index];
    if (policy === undefined) return undefined;
    peer.level = this.#level(scope, peer, time) + 1;
    peer.levelAt = Math.max(peer.levelAt, time);
    if (!(peer.level >= policy.violations)) return undefined;
    peer.level = 0;
    const n = this.#banLevel(scope, peer, time);
    peer.banLevel = n + 1;
    const step = policy.seconds[Math.min(n, policy.seconds.length - 1)] as number;
    const random = RULE_NUMBERS[AT_RANDOM + scope.index] as number;
    const seconds = step * (1 + policy.jitter * (2 * random - 1));
    peer.banEnd = time + seconds;
    scope.bansBegun += 1;
    return seconds;
  }

  /** The level that leads to bans, as of now. */
  #level({ index }: Scope, { level, levelAt }: Peer, time: number): number {
    const policy = this.#plan.bans[index];
    if (policy === undefined) return level;
    const left = level - elapsed(time, levelAt) * (policy.violations / policy.withinSeconds);
    return left > 0 ? left : 0;
  }

  /** The ban level, less what is forgotten by now. */
  #banLevel({ index }: Scope, { banLevel, banEnd }: Peer, time: number): number {
    const forgetAfter = this.#plan.bans[index]?.forgetAfterSeconds ?? Infinity;
    if (forgetAfter === Infinity) return banLevel;
    return Math.max(0, banLevel - Math.floor(elapsed(time, banEnd) / forgetAfter));
  }

  /** Whether cleanup keeps a fresh peer for its levels. */
  #isRemembered(scope: Scope, peer: Peer, time: number): boolean {
    const policy = this.#plan.bans[scope.index];
    if (policy === undefined) return false;
    if (this.#level(scope, peer, time) > 0) return true;
    return policy.forgetAfterSeconds < Infinity && this.#banLevel(scope, peer, time) > 0;
  }

  #takesSomething({ scope, slots }: Asked): boolean {
    return slots.some((slot) => !this.#isDryRun(scope, slot) && this.#cost(scope, slot) > 0);
  }

  #charge(asked: Asked[]): void {
    for (const { scope, peer, slots } of asked) {
      for (const slot of slots) {
        if (!this.#isDryRun(scope, slot)) this.#take(scope, peer, slot);
      }
    }
  }

  #chargeDryRun(allowed: Decision['dryRunAllowed'], refused: number[]): void {
    for (const [{ scope, peer }, slot] of allowed) this.#take(scope, peer, slot);
    for (const rule of refused) count(this.#totals.dryRunRefused, rule);
  }

  #take(scope: Scope, peer: Peer, slot: number): void {
    const sum = (peer.used[slot] as number) + this.#cost(scope, slot);
    peer.used[slot] = sum < MAX_USED ? sum : MAX_USED;
  }

  #findOrStore(scope: Scope, key: string, time: number): Peer | undefined {
    const peer = scope.peers.get(key) ?? scope.pending.get(key);
    const asked: Asked = {
      ...{ scope, peer: peer ?? freshPeer(key, time, this.#updates), slots: [] },
      isStored: scope.peers.has(key),
    };
    return this.#store(asked, time) ? asked.peer : undefined;
  }

  /** Stores a new peer, or one that was pending. False if there is no room. */
  #store({ scope, peer, isStored }: Asked, time: number): boolean {
    if (isStored) return true;
    if (!this.#makeRoom(scope, time, COST_OF_BANNED)) return false;
    scope.peers.set(peer.key, peer);
    scope.pending.delete(peer.key);
    return true;
  }

  #hasRoom(scope: Scope, time: number): boolean {
    return scope.peers.size < this.#maxPeers || this.#victim(scope, time, COST_OF_BANNED) !== null;
  }

  #makeRoom(scope: Scope, time: number, newcomerCost: EvictionCost): boolean {
    if (scope.peers.size < this.#maxPeers) return true;
    const victim = this.#victim(scope, time, newcomerCost);
    if (victim === null) return false;
    scope.evictions += 1;
    if (isLower(COST_OF_FRESH, this.#evictionCost(scope, victim, time))) scope.lossyEvictions += 1;
    scope.peers.delete(victim.key);
    return true;
  }

  #victim(scope: Scope, time: number, newcomerCost: EvictionCost): Peer | null {
    let victim: Peer | null = null;
    let lowest = newcomerCost;
    for (const peer of scope.peers.values()) {
      const cost = this.#evictionCost(scope, peer, time);
      if (isLower(cost, lowest)) [victim, lowest] = [peer, cost];
    }
    return victim;
  }

  #evictionCost(scope: Scope, peer: Peer, time: number): EvictionCost {
    if (time < peer.banEnd) return COST_OF_BANNED;
    if (peer.violations > 0) return [1, peer.violations, -elapsed(time, peer.at)];
    return [0, 0, this.#secondsUntilFresh(scope, peer, time)];
  }

  #secondsUntilFresh(scope: Scope, peer: Peer, time: number): number {
    const refilled = copyOf(peer);
    this.#refill(scope, refilled, 0, time);
    return Math.max(...refilled.used.map((used, slot) => this.#secondsOf(scope, slot, used)));
  }

  /** The seconds until a slot is fresh at the rate of the base plan. */
  #secondsOf(scope: Scope, slot: number, used: number): number {
    const rate = this.#plan.rates[this.#rule(scope, slot)] as number;
    return rate === 0 ? 0 : used / rate;
  }

  #savedUsed(scope: Scope, peer: Peer, time: number): number[] {
    const refilled = copyOf(peer);
    this.#refill(scope, refilled, 0, time);
    return refilled.used.map((used, slot) =>
      this.#secondsOf(scope, slot, used) > SNAPSHOT_SECONDS
        ? (peer.used[slot] as number)
        : Number.NaN,
    );
  }

  #savedPeer(scope: Scope, key: string, idle: number, used: number[], time: number): Peer {
    const peer = freshPeer(key, time - idle, this.#updates);
    peer.used = used.map((saved) => (Number.isNaN(saved) ? 0 : saved));
    if (peer.at < this.#earliest) this.#refill(scope, peer, 0, this.#earliest);
    return peer;
  }

  #mergeUsed(scope: Scope, known: Peer, saved: Peer, time: number): void {
    this.#refill(scope, known, 0, time);
    this.#refill(scope, saved, 0, time);
    known.used = known.used.map((used, slot) => Math.max(used, saved.used[slot] as number));
  }

  #merge(scope: Scope, known: Peer, saved: Peer, time: number): void {
    this.#mergeUsed(scope, known, saved, time);
    known.level = Math.max(this.#level(scope, known, time), saved.level);
    known.levelAt = Math.max(known.levelAt, time);
    known.banLevel = Math.max(known.banLevel, saved.banLevel);
    known.banEnd = Math.max(known.banEnd, saved.banEnd);
    if (known.violations === 0 && saved.violations > 0) known.order = this.#lastOrder += 1;
    known.violations = Math.max(known.violations, saved.violations);
  }
}

/** Compared from left to right: whether the peer is an offender, its violations, seconds until fresh or minus idle. */
type EvictionCost = readonly [number, number, number];

const COST_OF_BANNED: EvictionCost = [1, Infinity, Infinity];
const COST_OF_FRESH: EvictionCost = [0, 0, 0];

function isLower(a: EvictionCost, b: EvictionCost): boolean {
  const differs = a.findIndex((number, i) => number !== b[i]);
  return differs !== -1 && (a[differs] as number) < (b[differs] as number);
}

function freshPeer(key: string, at: number, updates: number): Peer {
  return {
    ...{ key, at, updates, used: new Array(MAX_RULES).fill(0), violations: 0, order: 0 },
    ...{ level: 0, levelAt: NEVER, banLevel: 0, banEnd: NEVER },
  };
}

function copyOf(peer: Peer): Peer {
  return { ...peer, used: [...peer.used] };
}

function elapsed(now: number, then: number): number {
  return now > then ? now - then : 0;
}

function delaySeconds(used: number, cost: number, burst: number, rate: number): number {
  if (cost > burst) return Infinity;
  const delay = (used + cost - burst) / rate;
  const scaled = delay * 2 ** 20;
  return Number.isFinite(scaled) ? (Math.ceil(scaled) + 1) / 2 ** 20 : delay;
}

function longestOf(refusals: Refusal[]): Refusal {
  return refusals.reduce((a, b) =>
    b.delay > a.delay || (b.delay === a.delay && b.rank < a.rank) ? b : a,
  );
}

function hasBit(bits: number | undefined, bit: number): boolean {
  return (((bits as number) >> bit) & 1) === 1;
}

function count(counts: Float64Array, index: number): void {
  counts[index] = (counts[index] as number) + 1;
}

function write(results: Record<number, number>): void {
  for (const [index, result] of Object.entries(results)) RULE_NUMBERS[Number(index)] = result;
}

/** The next larger double. */
export function nextUp(value: number): number {
  const double = Float64Array.of(value === 0 ? 0 : value);
  const bits = new BigInt64Array(double.buffer);
  bits[0] = (bits[0] as bigint) + (value < 0 ? -1n : 1n);
  return double[0] as number;
}

// The digests of the model: a number for each key, which all models share.
const KEYS: string[] = [];
const NUMBERS = new Map<string, number>();

function internedKey(key: string): number {
  const known = NUMBERS.get(key);
  if (known !== undefined) return known;
  NUMBERS.set(key, KEYS.length);
  return KEYS.push(key) - 1;
}
