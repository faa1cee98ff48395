// The reference model of a limiter: for each peer, all its possible states.
//
// Most peers have one possible state. They have several after a full table has evicted records of its own choice, or
// after a budget has ended a cleanup at some point. An answer must match at least one possible state, and excludes the
// states that it does not match. A ban in force is never evicted, so a banned peer has no second state.

import { inspect } from 'node:util';
import type { Violator } from 'relay-limiter';
import { EvictionTimes } from './eviction-times.js';
import { type PeerState, same, secondsBetween } from './peer-state.js';
import {
  BAN_BEGINS,
  isCheck,
  type Outcome,
  type Query,
  REFUSED,
  type Rules,
  type SnapshotEntry,
} from './rules.js';

type State = PeerState | undefined;

/** The maximum number of violators that statistics list. */
const MAX_LISTED = 10;

interface Peer {
  states: State[];
  /** Position in the evictions: `states` already takes the evictions before it into account. */
  mark: number;
}

/** The limiter did something that no possible state allows. */
export class Difference extends Error {}

/** Keys of offenders up to this length, in code units, are always stored. */
const MAX_ALWAYS_NAMED = 128;

export class Model {
  /** Evictions: the minimum of lossy ones, and the maximum of all. */
  lossyEvictions = 0;
  possibleEvictions = 0;
  /** Newcomers refused because the table is full: minimum and maximum. */
  refusedNewcomers = 0;
  possibleRefusals = 0;
  /** Exact, except for `unsureVerdicts`: checks with several matching states and different verdicts. */
  readonly verdicts = [0, 0, 0];
  unsureVerdicts = 0;
  bansBegun = 0;

  readonly #rules: Rules;
  readonly #maxPeers: number;
  readonly #peers = new Map<string, Peer>();
  readonly #evictions = new EvictionTimes();
  /** The maximum number of peers in the table. */
  #maxPeerCount = 0;
  #bansRestored = 0;

  constructor(rules: Rules, maxPeers: number) {
    this.#rules = rules;
    this.#maxPeers = maxPeers;
  }

  get maxPeerCount(): number {
    return this.#maxPeerCount;
  }

  /** Compares the answer to a query with the model. `read` extracts the answer from an outcome. @throws Difference */
  query<Answer>(
    key: string,
    query: Query,
    now: number,
    given: Answer,
    read: (outcome: Outcome) => Answer,
  ): void {
    const fits = (outcome: Outcome) => Object.is(read(outcome), given);
    const answer = (state: State): Outcome => {
      if (state?.isPending !== true) return this.#rules.answer(state, query, now);
      const outcome = this.#rules.answer(back(state), query, now);
      // Only a check moves a pending peer into the table.
      return isCheck(query) ? outcome : { ...outcome, state: state };
    };
    const { states, mayBeGone } = this.#possible(key);
    const outcomes = states.map(answer).filter(fits);
    if (mayBeGone) {
      const forgotten = [answer(undefined)].filter(fits);
      if (outcomes.length === 0 && forgotten.length > 0) this.#chargeLoss(key);
      outcomes.push(...forgotten);
    }
    const newcomer = mayBeGone || !states.every(isInTable);
    if (newcomer && isCheck(query) && this.#mayBeRefused() && fits(REFUSED_NEWCOMER)) {
      if (outcomes.length === 0) this.refusedNewcomers += 1;
      this.possibleRefusals += 1;
      outcomes.push(...states.filter((state) => !isInTable(state)).map(refusedNewcomer));
      if (mayBeGone) outcomes.push(REFUSED_NEWCOMER);
    }
    if (outcomes.length === 0) this.#differ(key, query, now, given);
    if (isCheck(query)) this.#count(outcomes);
    const after = distinct(outcomes.map(({ state }) => state));
    if (newcomer && after.some(isInTable)) this.#reserveSlot(now);
    this.#keep(key, after);
  }

  /** Compares the answer to a query that changes no state. @throws Difference */
  observe<Answer>(
    key: string,
    query: string,
    now: number,
    given: Answer,
    read: (state: State) => Answer,
  ): void {
    const states = this.#states(key).filter((state) => Object.is(read(state), given));
    if (states.length === 0) this.#differ(key, query, now, given);
    this.#keep(key, states);
  }

  remove(key: string): void {
    const states = this.#states(key);
    if (states.every(isInTable)) this.#maxPeerCount -= 1;
    this.#peers.delete(key);
  }

  clear(): void {
    this.#peers.clear();
    this.#maxPeerCount = 0;
  }

  /** Applies a cleanup. If it is not `whole`, it may have ended at any point. */
  cleanup(maxAge: number, now: number, whole: boolean): void {
    const passes = this.#rules.cleanup(maxAge);
    for (const key of this.#peers.keys()) {
      let states = this.#states(key);
      for (const pass of passes) {
        const swept = states.map((state) => state && pass(state, now));
        states = distinct(whole ? swept : [...states, ...swept]);
      }
      const pending = states.map((state) =>
        state?.isPending ? waiting(this.#rules.pending(state, now)) : state,
      );
      states = distinct(whole ? pending : [...states, ...pending]);
      this.#keep(key, states);
    }
  }

  /** Forgets a peer that is not queried again, unless it is banned: the model does not need its state. */
  untrack(key: string): void {
    const peer = this.#peers.get(key);
    if (peer?.states.some((state) => state?.bannedAt !== undefined)) return;
    this.#peers.delete(key);
  }

  /** Lowers the maximum number of peers to the number that the limiter reports. */
  bound(peers: number): void {
    this.#maxPeerCount = Math.min(this.#maxPeerCount, peers);
  }

  /**
   * Compares a snapshot. Its entries reduce the possible states of peers. Up to `unnamed` offenders with long keys may
   * be missing. `isUntracked` returns true for keys that the model may have forgotten.
   * @throws Difference
   */
  compareSnapshot(
    entries: readonly SnapshotEntry[],
    now: number,
    unnamed: number,
    isUntracked: (key: string) => boolean,
  ): void {
    const named = new Map(entries.map((entry) => [entry.key, entry]));
    let missing = 0;
    for (const key of this.#peers.keys()) {
      const entry = named.get(key);
      named.delete(key);
      const states = this.#states(key).filter((state) => this.#fitsEntry(state, entry, now));
      // If a peer's key may not be stored, its absence does not reduce its states.
      const mayBeUnnamed = entry === undefined && unnamed > 0 && key.length > MAX_ALWAYS_NAMED;
      if (states.length > 0 && !mayBeUnnamed) this.#keep(key, states);
      if (states.length > 0) continue;
      missing += 1;
      if (!mayBeUnnamed || missing > unnamed) this.#differ(key, 'a snapshot', now, entry);
    }
    for (const entry of named.values()) {
      if (isUntracked(entry.key) && entry.banSecondsLeft === null) continue;
      this.#differ(entry.key, 'a snapshot', now, entry);
    }
  }

  /**
   * Sets the state of a new limiter after restoring a snapshot of the limiter with the model `before`. `hasAll`: the new
   * limiter had space for every peer stored under a digest.
   */
  restore(
    before: Model,
    entries: readonly SnapshotEntry[],
    now: number,
    isUntracked: (key: string) => boolean,
    hasAll: boolean,
  ): void {
    for (const [key] of before.#peers) {
      const saved = before
        .#states(key)
        .map((state) => state && waiting(this.#rules.saved(state, now)));
      this.#keep(key, distinct(hasAll ? saved : [...saved, undefined]));
    }
    for (const entry of entries) {
      const state = this.#rules.restored(entry, now);
      this.#maxPeerCount += 1;
      this.#peers.delete(entry.key);
      if (state.bannedAt !== undefined) this.#bansRestored += 1;
      if (isUntracked(entry.key) && state.bannedAt === undefined) continue;
      this.#peers.set(entry.key, { states: [state], mark: this.#evictions.mark });
    }
  }

  /** Returns the keys of bans that are certainly in force, and of those that may be. */
  bans(now: number): { sure: string[]; possible: Set<string> } {
    const sure: string[] = [];
    const possible = new Set<string>();
    for (const key of this.#peers.keys()) {
      const states = this.#states(key);
      const banned = states.filter((state) => this.#inBan(state, now)).length;
      if (banned === states.length) sure.push(key);
      if (banned > 0) possible.add(key);
    }
    return { sure, possible };
  }

  /** The number of peers that are certainly in the table. */
  get minPeerCount(): number {
    return [...this.#peers.keys()].filter((key) => this.#states(key).every(isInTable)).length;
  }

  /**
   * Compares the top violators. Each count reduces the possible states of its peer. At most `unnamed` peers may be
   * missing that certainly have more violations than the last one listed. Keys for which `isUntracked` is true have at
   * most `maxUntrackedViolations`. @throws Difference
   */
  compareViolators(
    listed: readonly Violator[],
    now: number,
    unnamed: number,
    isUntracked: (key: string) => boolean,
    maxUntrackedViolations: number,
  ): void {
    const named = new Set<string>();
    for (const [key, count] of listed) {
      named.add(key);
      if (isUntracked(key) && !this.#peers.has(key) && count <= maxUntrackedViolations) continue;
      this.observe(key, 'violations', now, count, violationsOf);
    }
    const last = listed.length < MAX_LISTED ? 0 : (listed.at(-1)?.[1] ?? 0);
    const missing = [...this.#peers.keys()].filter(
      (key) => !named.has(key) && this.#leastViolations(key) > last,
    );
    if (missing.length > unnamed) {
      throw new Difference(`not among the worst violators: ${missing.slice(0, 5)}`);
    }
  }

  /** Returns the minimum and maximum of all violations, up to 2^53 - 1, without forgotten peers. */
  violations(): [least: number, most: number] {
    let [least, most] = [0, 0];
    for (const key of this.#peers.keys()) {
      const counts = this.#states(key).map(violationsOf);
      least += Math.min(...counts);
      most += Math.max(...counts);
    }
    return [Math.min(least, Number.MAX_SAFE_INTEGER), Math.min(most, Number.MAX_SAFE_INTEGER)];
  }

  #leastViolations(key: string): number {
    return Math.min(...this.#states(key).map(violationsOf));
  }

  #states(key: string): State[] {
    const { states, mayBeGone } = this.#possible(key);
    return mayBeGone ? [...states, undefined] : states;
  }

  /** Returns the recorded states, and whether the table may have evicted the record since. */
  #possible(key: string): { states: State[]; mayBeGone: boolean } {
    const peer = this.#peers.get(key);
    if (peer === undefined) return UNKNOWN_PEER;
    const { states } = peer;
    const latest = this.#evictions.latestSince(peer.mark);
    const mayBeGone =
      latest !== undefined &&
      !states.includes(undefined) &&
      states.some((state) => isInTable(state) && !this.#inBan(state, latest));
    return { states, mayBeGone };
  }

  #keep(key: string, states: State[]): void {
    if (states.every((state) => state === undefined)) this.#peers.delete(key);
    else this.#peers.set(key, { states, mark: this.#evictions.mark });
  }

  /** Records a new peer: the number of peers grows, or another peer is evicted. */
  #reserveSlot(now: number): void {
    if (this.#maxPeerCount < this.#maxPeers) {
      this.#maxPeerCount += 1;
    } else {
      this.possibleEvictions += 1;
      this.#evictions.note(now);
    }
  }

  #mayBeRefused(): boolean {
    return this.#maxPeerCount >= this.#maxPeers && this.bansBegun + this.#bansRestored > 0;
  }

  #count(outcomes: readonly Outcome[]): void {
    const { verdict, answer } = outcomes[0] as Outcome;
    if (outcomes.some((other) => other.verdict !== verdict)) this.unsureVerdicts += 1;
    this.verdicts[verdict] = (this.verdicts[verdict] as number) + 1;
    if (verdict === 2 && answer === BAN_BEGINS) this.bansBegun += 1;
  }

  /** Counts a lossy eviction: only an evicted record matches the answer, and the record was not in its initial state. */
  #chargeLoss(key: string): void {
    const { states, mark } = this.#peers.get(key) as Peer;
    const latest = this.#evictions.latestSince(mark) as number;
    const worth = (state: State) => state !== undefined && !this.#rules.isFresh(state, latest);
    if (states.every(worth)) this.lossyEvictions += 1;
  }

  #inBan(state: State, now: number): boolean {
    const { banDuration } = this.#rules;
    if (state?.bannedAt === undefined || banDuration === undefined) return false;
    return secondsBetween(state.bannedAt, now) < banDuration;
  }

  #fitsEntry(state: State, entry: SnapshotEntry | undefined, now: number): boolean {
    const expected = state && this.#rules.snapshot(state, now);
    if (expected === undefined || entry === undefined) return expected === entry;
    return (
      expected.violations === entry.violations &&
      near(expected.banSecondsLeft, entry.banSecondsLeft) &&
      near(expected.idleSeconds, entry.idleSeconds) &&
      near(expected.bucket?.tokens ?? null, entry.bucket?.tokens ?? null) &&
      near(expected.bucket?.idleSeconds ?? null, entry.bucket?.idleSeconds ?? null)
    );
  }

  #differ(key: string, query: unknown, now: number, given: unknown): never {
    const show = (value: unknown) => inspect(value, { breakLength: Infinity, maxStringLength: 60 });
    throw new Difference(
      `${show(key)} at ${now}: ${show(query)} answered ${show(given)}; ` +
        `possible states: ${this.#states(key).map(show).join(' or ')}`,
    );
  }
}

export const violationsOf = (state: State): number => state?.violations ?? 0;

const isInTable = (state: State): boolean => state !== undefined && state.isPending !== true;

/** Returns the state after a pending peer has returned. */
function back({ isPending: _, ...state }: PeerState): PeerState {
  return state;
}

function waiting(state: State): State {
  return state && { ...state, isPending: true };
}

/** Returns the outcome of a newcomer that a full table refuses: its state stays unchanged. */
function refusedNewcomer(state: State): Outcome {
  return { ...REFUSED_NEWCOMER, state: state };
}

const UNKNOWN_PEER = { states: [undefined], mayBeGone: false };

/** The answer to a newcomer if no record in the table can be evicted. */
const REFUSED_NEWCOMER: Outcome = { state: undefined, answer: REFUSED, verdict: 1 };

function distinct(states: readonly State[]): State[] {
  return states.filter((state, i) => states.findIndex((other) => same(state, other)) === i);
}

/** Compares with a tolerance: relative times are differences of large numbers. */
export function near(a: number | null, b: number | null): boolean {
  if (a === null || b === null) return a === b;
  return Math.abs(a - b) <= 1e-6 * Math.max(1, Math.abs(a));
}
