// A limiter as the reference model sees it: for each peer all states it may be in.
//
// Most peers have one. A full table gives up records of its own choice, and a budget ends a cleanup
// anywhere: then there are several, an answer must fit at least one of them, and those that it does not
// fit are out. A ban in force is never given up: its peer has no second state.

import { inspect } from 'node:util';
import type { Violator } from 'relay-limiter';
import { Instants } from './instants.js';
import { type Known, same, secondsBetween } from './known.js';
import {
  BAN_BEGINS,
  type Outcome,
  type Question,
  REFUSED,
  type Rules,
  type SnapshotEntry,
} from './rules.js';

type State = Known | undefined;

/** Violators that statistics name at most. */
const MOST_LISTED = 10;

interface Peer {
  states: State[];
  /** Of the evictions: those before it are accounted for. */
  mark: number;
}

/** What the limiter did is not what any state allows. */
export class Difference extends Error {}

/** Code units of the longest key that every offender is named by. */
const ALWAYS_NAMED = 128;

export class Model {
  /** Evictions: at least and at most. */
  lossyEvictions = 0;
  possibleEvictions = 0;
  /** Newcomers refused for want of room: at least and at most. */
  refusedNewcomers = 0;
  possibleRefusals = 0;
  /** Exact, but for `unsureVerdicts`, whose states disagree. */
  readonly verdicts = [0, 0, 0];
  unsureVerdicts = 0;
  bansBegun = 0;

  readonly #rules: Rules;
  readonly #maxPeers: number;
  readonly #peers = new Map<string, Peer>();
  readonly #evictions = new Instants();
  /** Peers in the table, at most. */
  #mostPeers = 0;
  #bansRestored = 0;

  constructor(rules: Rules, maxPeers: number) {
    this.#rules = rules;
    this.#maxPeers = maxPeers;
  }

  get mostPeers(): number {
    return this.#mostPeers;
  }

  /** A check, and what it answered: `read` takes that from an outcome. @throws Difference */
  ask<Answer>(
    key: string,
    question: Question,
    now: number,
    given: Answer,
    read: (outcome: Outcome) => Answer,
  ): void {
    const fits = (outcome: Outcome) => Object.is(read(outcome), given);
    const answer = (state: State): Outcome => {
      if (state?.isAwaited !== true) return this.#rules.answer(state, question, now);
      const outcome = this.#rules.answer(back(state), question, now);
      // A question about bans brings nobody back.
      return question.ask === 'ban' ? { ...outcome, known: state } : outcome;
    };
    const { states, mayBeGone } = this.#possible(key);
    const outcomes = states.map(answer).filter(fits);
    if (mayBeGone) {
      const forgotten = [answer(undefined)].filter(fits);
      if (outcomes.length === 0 && forgotten.length > 0) this.#chargeLoss(key);
      outcomes.push(...forgotten);
    }
    const newcomer = mayBeGone || !states.every(isInTable);
    if (newcomer && question.ask !== 'ban' && this.#mayBeRefused() && fits(NO_ROOM)) {
      if (outcomes.length === 0) this.refusedNewcomers += 1;
      this.possibleRefusals += 1;
      outcomes.push(...states.filter((state) => !isInTable(state)).map(refusedNewcomer));
      if (mayBeGone) outcomes.push(NO_ROOM);
    }
    if (outcomes.length === 0) this.#differ(key, question, now, given);
    if (question.ask !== 'ban') this.#count(outcomes);
    const after = distinct(outcomes.map(({ known }) => known));
    if (newcomer && after.some(isInTable)) this.#makeRoom(now);
    this.#keep(key, after);
  }

  /** What a question that changes nothing answered. @throws Difference */
  observe<Answer>(
    key: string,
    question: string,
    now: number,
    given: Answer,
    read: (state: State) => Answer,
  ): void {
    const states = this.#states(key).filter((state) => Object.is(read(state), given));
    if (states.length === 0) this.#differ(key, question, now, given);
    this.#keep(key, states);
  }

  remove(key: string): void {
    const states = this.#states(key);
    if (states.every(isInTable)) this.#mostPeers -= 1;
    this.#peers.delete(key);
  }

  clear(): void {
    this.#peers.clear();
    this.#mostPeers = 0;
  }

  /** A cleanup of everything, or one that may have ended anywhere. */
  cleanup(maxAge: number, now: number, whole: boolean): void {
    const passes = this.#rules.cleanup(maxAge);
    for (const key of this.#peers.keys()) {
      let states = this.#states(key);
      for (const pass of passes) {
        const swept = states.map((state) => state && pass(state, now));
        states = distinct(whole ? swept : [...states, ...swept]);
      }
      const awaited = states.map((state) =>
        state?.isAwaited ? waiting(this.#rules.awaited(state, now)) : state,
      );
      states = distinct(whole ? awaited : [...states, ...awaited]);
      this.#keep(key, states);
    }
  }

  /** A peer that is never asked again: what is known of it is of no use, unless it is banned. */
  letGo(key: string): void {
    const peer = this.#peers.get(key);
    if (peer?.states.some((state) => state?.bannedAt !== undefined)) return;
    this.#peers.delete(key);
  }

  /** There are no more peers than that: so says the limiter, which was asked. */
  bound(peers: number): void {
    this.#mostPeers = Math.min(this.#mostPeers, peers);
  }

  /**
   * Compares a snapshot; offenders up to `unnamed` may be missing, if their keys are long. What it says
   * of a peer decides between the peer's states. `stranger` tells the keys that were let go.
   * @throws Difference
   */
  compareSnapshot(
    entries: readonly SnapshotEntry[],
    now: number,
    unnamed: number,
    stranger: (key: string) => boolean,
  ): void {
    const named = new Map(entries.map((entry) => [entry.key, entry]));
    let missing = 0;
    for (const key of this.#peers.keys()) {
      const entry = named.get(key);
      named.delete(key);
      const states = this.#states(key).filter((state) => this.#fitsEntry(state, entry, now));
      // Missing, it says nothing of one that may have no name.
      const mayBeUnnamed = entry === undefined && unnamed > 0 && key.length > ALWAYS_NAMED;
      if (states.length > 0 && !mayBeUnnamed) this.#keep(key, states);
      if (states.length > 0) continue;
      missing += 1;
      if (!mayBeUnnamed || missing > unnamed) this.#differ(key, 'a snapshot', now, entry);
    }
    for (const entry of named.values()) {
      if (stranger(entry.key) && entry.banSecondsLeft === null) continue;
      this.#differ(entry.key, 'a snapshot', now, entry);
    }
  }

  /**
   * What a new limiter knows that a snapshot of the one of model `before` was put into. `hasAll`: there
   * was room for all that it had under digests.
   */
  restore(
    before: Model,
    entries: readonly SnapshotEntry[],
    now: number,
    stranger: (key: string) => boolean,
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
      this.#mostPeers += 1;
      this.#peers.delete(entry.key);
      if (state.bannedAt !== undefined) this.#bansRestored += 1;
      if (stranger(entry.key) && state.bannedAt === undefined) continue;
      this.#peers.set(entry.key, { states: [state], mark: this.#evictions.mark });
    }
  }

  /** Keys of bans in force: those that must be, and those that may be. */
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

  /** Peers that are surely in the table. */
  get leastPeers(): number {
    return [...this.#peers.keys()].filter((key) => this.#states(key).every(isInTable)).length;
  }

  /**
   * Compares the worst violators: what is said of one decides between its states, and nobody who is
   * surely worse than the last may be missing, but for `unnamed` of them. Keys that were let go, which
   * `stranger` tells, have at most `mostOfStranger`. @throws Difference
   */
  compareViolators(
    listed: readonly Violator[],
    now: number,
    unnamed: number,
    stranger: (key: string) => boolean,
    mostOfStranger: number,
  ): void {
    const named = new Set<string>();
    for (const [key, count] of listed) {
      named.add(key);
      if (stranger(key) && !this.#peers.has(key) && count <= mostOfStranger) continue;
      this.observe(key, 'violations', now, count, violationsOf);
    }
    const last = listed.length < MOST_LISTED ? 0 : (listed.at(-1)?.[1] ?? 0);
    const missing = [...this.#peers.keys()].filter(
      (key) => !named.has(key) && this.#leastViolations(key) > last,
    );
    if (missing.length > unnamed) {
      throw new Difference(`not among the worst violators: ${missing.slice(0, 5)}`);
    }
  }

  /** Violations in all, up to 2^53 - 1: at least and at most, those let go not counted. */
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

  /** The states that are known of, and whether the table may have given the record up since. */
  #possible(key: string): { states: State[]; mayBeGone: boolean } {
    const peer = this.#peers.get(key);
    if (peer === undefined) return STRANGER;
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

  /** One peer more, or in the place of another. */
  #makeRoom(now: number): void {
    if (this.#mostPeers < this.#maxPeers) {
      this.#mostPeers += 1;
    } else {
      this.possibleEvictions += 1;
      this.#evictions.note(now);
    }
  }

  #mayBeRefused(): boolean {
    return this.#mostPeers >= this.#maxPeers && this.bansBegun + this.#bansRestored > 0;
  }

  #count(outcomes: readonly Outcome[]): void {
    const { verdict, answer } = outcomes[0] as Outcome;
    if (outcomes.some((other) => other.verdict !== verdict)) this.unsureVerdicts += 1;
    this.verdicts[verdict] = (this.verdicts[verdict] as number) + 1;
    if (verdict === 2 && answer === BAN_BEGINS) this.bansBegun += 1;
  }

  /** Only a record that was given up fits: the limiter forgot something, unless it was as good as new. */
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

  #differ(key: string, question: unknown, now: number, given: unknown): never {
    const show = (value: unknown) => inspect(value, { breakLength: Infinity, maxStringLength: 60 });
    throw new Difference(
      `${show(key)} at ${now}: ${show(question)} answered ${show(given)}; ` +
        `possible states: ${this.#states(key).map(show).join(' or ')}`,
    );
  }
}

/** Of whom nothing is known, none. */
export const violationsOf = (state: State): number => state?.violations ?? 0;

const isInTable = (state: State): boolean => state !== undefined && state.isAwaited !== true;

/** As it is once its peer is back. */
function back({ isAwaited: _, ...known }: Known): Known {
  return known;
}

function waiting(state: State): State {
  return state && { ...state, isAwaited: true };
}

/** Refused for want of room: what was known stays as it is. */
function refusedNewcomer(state: State): Outcome {
  return { ...NO_ROOM, known: state };
}

const STRANGER = { states: [undefined], mayBeGone: false };

/** The answer to a newcomer where nobody may go. */
const NO_ROOM: Outcome = { known: undefined, answer: REFUSED, verdict: 1 };

function distinct(states: readonly State[]): State[] {
  return states.filter((state, i) => states.findIndex((other) => same(state, other)) === i);
}

/** Relative times are differences of large numbers. */
function near(a: number | null, b: number | null): boolean {
  if (a === null || b === null) return a === b;
  return Math.abs(a - b) <= 1e-6 * Math.max(1, Math.abs(a));
}
