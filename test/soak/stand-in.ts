// A limiter made of the reference model's rules and one Map, for tests of the soak: right as it is, or
// wrong in one way. It gives up the records of the order, and banned peers never.

import { createHash } from 'node:crypto';
import type { Ban, Violator } from 'relay-limiter';
import { INITIAL_STATE, type PeerState, secondsBetween } from '../../soak/model/peer-state.js';
import {
  BAN_BEGINS,
  isCheck,
  type Outcome,
  type Query,
  type Rules,
  type SnapshotEntry,
} from '../../soak/model/rules.js';
import type { Host, LimiterAdapter, Statistics, Subject } from '../../soak/subjects.js';

/** What it does wrong. */
export type Flaw =
  | 'none'
  | 'evicts the banned'
  | 'has no bound'
  | 'does not count what it forgets'
  | 'refuses newcomers that have room'
  | 'forgets a violation'
  | 'lets a ban end early'
  | 'cleans up what is young'
  | 'loses an offender in a snapshot'
  | 'restores bans that are shorter'
  | 'works although the clock broke'
  | 'announces a ban twice'
  | 'names violators that are none'
  | 'counts violations of a violator wrong'
  | 'leaves out the worst violator'
  | 'counts violations many times'
  | 'tells too few peers'
  | 'tells a memory it cannot know'
  | 'tells tokens that are not there'
  | 'tells delays that are too short'
  | 'tells bans that are too long'
  | 'tells tokens as of the last check'
  | 'keeps a ban that is to end';

export class StandIn implements LimiterAdapter {
  readonly engine = 'js';
  readonly #rules: Rules;
  readonly #host: Host;
  readonly #flaw: Flaw;
  /** Says what is wrong with arguments. */
  readonly #real: LimiterAdapter;
  readonly #peers = new Map<string, PeerState>();
  /** Restored under a digest, and not back yet. */
  readonly #pending = new Map<string, PeerState>();
  readonly #counts = {
    evictions: 0,
    lossyEvictions: 0,
    refusedNewcomers: 0,
    unnamedOffenders: 0,
    bansBegun: 0,
    verdicts: { allow: 0, delay: 0, disconnect: 0 },
  };
  /** How often its flaw could have shown. */
  #chances = 0;

  constructor({ rules, create }: Subject, host: Host, flaw: Flaw) {
    this.#rules = rules;
    this.#real = create('js', host);
    this.#host = host;
    this.#flaw = flaw;
  }

  query(key: string, query: Query): number | boolean {
    if (typeof key !== 'string' || !isCost(query)) return this.#real.query(key, query);
    const now = this.#now();
    const isBack = isCheck(query) && !this.#peers.has(key);
    const state = this.#peers.get(key);
    const given = state ?? this.#pending.get(digestOf(key));
    const outcome = this.#rules.answer(given, query, this.#judgedAt(given, now));
    if (outcome.state !== undefined && state === undefined && !this.#reserveSlot(now)) {
      this.#counts.refusedNewcomers += 1;
      this.#counts.verdicts.delay += 1;
      return 1;
    }
    if (!isCheck(query) && state === undefined) return outcome.answer;
    if (query.kind === 'unban' && this.#is('keeps a ban that is to end')) return outcome.answer;
    if (isBack) this.#pending.delete(digestOf(key));
    this.#set(key, this.#spoilt(outcome.state));
    if (isCheck(query)) this.#count(key, outcome);
    return outcome.answer;
  }

  queryPeer(key: string, query: Query): number | boolean {
    return this.query(key, query);
  }

  violations(key: string): number {
    return this.#peers.get(key)?.violations ?? 0;
  }

  remove(key: string): void {
    this.#peers.delete(key);
    this.#pending.delete(digestOf(key));
  }

  clear(): void {
    this.#peers.clear();
    this.#pending.clear();
  }

  cleanup(maxAge: number, budgetMs = 0): undefined {
    if (!(maxAge >= -1 && budgetMs >= 0)) this.#real.cleanup(maxAge, budgetMs);
    const now = this.#now();
    const age = this.#is('cleans up what is young') ? maxAge / 2 : maxAge;
    for (const [key, state] of this.#peers) {
      let left: PeerState | undefined = state;
      for (const pass of this.#rules.cleanup(age)) left = left && pass(left, now);
      this.#set(key, left);
    }
    for (const [digest, state] of this.#pending) {
      let left: PeerState | undefined = state;
      for (const pass of this.#rules.cleanup(age)) left = left && pass(left, now);
      left = left && this.#rules.pending(left, now);
      if (left === undefined) this.#pending.delete(digest);
      else this.#pending.set(digest, left);
    }
  }

  statistics(): Statistics {
    const now = this.#now();
    const { banDuration = 0 } = this.#rules;
    const banned = ([, { bannedAt }]: [string, PeerState]) =>
      bannedAt !== undefined && secondsBetween(bannedAt, now) < banDuration;
    const peers = [...this.#peers];
    const times = this.#is('counts violations many times') ? 1000 : 1;
    const memory = this.#is('tells a memory it cannot know') ? { memoryBytes: 0 } : {};
    return {
      ...this.#counts,
      ...memory,
      peers: this.#is('tells too few peers') ? 0 : peers.length,
      tracked: peers.length,
      banned: peers.filter(banned).map(([key]) => key),
      totalViolations: times * peers.reduce((sum, [, { violations }]) => sum + violations, 0),
      topViolators: this.#topViolators(),
    };
  }

  tokens(key: string): number {
    const tokens = this.#rules.tokens?.(this.#state(key));
    return this.#is('tells tokens that are not there') ? (tokens ?? 0) + 1 : (tokens ?? 0);
  }

  delay(key: string): number {
    const delay = this.#rules.delay?.(this.#state(key)) ?? 0;
    return this.#is('tells delays that are too short') ? delay / 2 : delay;
  }

  refilled(key: string): number {
    const rule = this.#is('tells tokens as of the last check') ? 'tokens' : 'refilled';
    return this.#rules[rule]?.(this.#state(key), this.#now()) ?? 0;
  }

  secondsLeft(key: string): number {
    const seconds = this.#rules.secondsLeft?.(this.#state(key), this.#now()) ?? 0;
    return this.#is('tells bans that are too long') && seconds > 0 ? seconds + 1 : seconds;
  }

  #topViolators(): Violator[] {
    const sorted = [...this.#peers]
      .map(([key, { violations }]): Violator => [key, violations])
      .filter(([, violations]) => violations > 0)
      .sort(([, a], [, b]) => b - a)
      .slice(this.#is('leaves out the worst violator') ? 1 : 0)
      .slice(0, 10);
    if (this.#is('names violators that are none')) return sorted.map(([, n]) => ['nobody', n]);
    const more = this.#is('counts violations of a violator wrong') ? 1 : 0;
    return sorted.map(([key, violations]) => [key, violations + more]);
  }

  snapshot() {
    const now = this.#now();
    const peers = [...this.#peers].flatMap(([key, state]) => {
      const entry = this.#rules.snapshot(state, now);
      return entry === undefined ? [] : [{ key, ...entry }];
    });
    if (this.#is('loses an offender in a snapshot')) peers.pop();
    const named = new Set(peers.map(({ key }) => key));
    const others = [...this.#peers].filter(([key]) => !named.has(key));
    const rows = [
      ...others.map(([key, state]): [string, PeerState] => [digestOf(key), state]),
      ...this.#pending,
    ].flatMap(([digest, state]) => {
      const saved = this.#rules.saved(state, now);
      if (saved === undefined) return [];
      const { allowedAt, tokens, refilledAt } = saved;
      const idle = allowedAt === undefined ? null : secondsBetween(allowedAt, now);
      const bucketIdle = tokens === undefined ? null : secondsBetween(refilledAt, now);
      return [[digest, idle, tokens ?? null, bucketIdle] as const];
    });
    const digests = [{ secret: '0'.repeat(32), peers: rows }];
    return { ...this.#real.snapshot(), peers, digests };
  }

  #state(key: string): PeerState | undefined {
    return this.#peers.get(key) ?? this.#pending.get(digestOf(key));
  }

  restore(snapshot: { peers: SnapshotEntry[]; digests: { peers: Row[] }[] }): number {
    this.#real.restore(snapshot);
    this.#real.clear();
    const now = this.#now();
    for (const entry of snapshot.peers) {
      const state = this.#rules.restored(entry, now);
      const { bannedAt } = state;
      const early = this.#is('restores bans that are shorter') && bannedAt !== undefined;
      if (!this.#peers.has(entry.key)) {
        this.#peers.set(entry.key, early ? { ...state, bannedAt: bannedAt - 1 } : state);
      }
    }
    const rows = snapshot.digests.flatMap(({ peers }) => peers);
    for (const [digest, idle, tokens, bucketIdle] of rows) {
      this.#pending.set(digest, {
        ...INITIAL_STATE,
        ...(idle !== null && { allowedAt: now - idle }),
        ...(tokens !== null && bucketIdle !== null && { tokens, refilledAt: now - bucketIdle }),
      });
    }
    return snapshot.peers.length + rows.length;
  }

  #is(flaw: Flaw): boolean {
    return this.#flaw === flaw;
  }

  #now(): number {
    try {
      const now = this.#host.clock();
      if (Number.isFinite(now)) return now;
    } catch (error) {
      if (!this.#is('works although the clock broke')) throw error;
      return 0;
    }
    throw Object.assign(new RangeError('no number'), { code: 'ERR_LIMITER_CLOCK' });
  }

  /** A ban that ends early does so because time is taken for later than it is. */
  #judgedAt(state: PeerState | undefined, now: number): number {
    const early = this.#is('lets a ban end early') && state?.bannedAt !== undefined;
    return early ? now + 1 : now;
  }

  #spoilt(state: PeerState | undefined): PeerState | undefined {
    if (state === undefined || state.violations === 0) return state;
    this.#chances += 1;
    if (!this.#is('forgets a violation') || this.#chances % 100 !== 0) return state;
    return { ...state, violations: state.violations - 1 };
  }

  #set(key: string, state: PeerState | undefined): void {
    if (state === undefined) this.#peers.delete(key);
    else this.#peers.set(key, state);
  }

  #count(key: string, { verdict, answer, state }: Outcome): void {
    const names = ['allow', 'delay', 'disconnect'] as const;
    this.#counts.verdicts[names[verdict] as 'allow'] += 1;
    if (verdict !== 2) return;
    const { banDuration = 0 } = this.#rules;
    if (answer !== BAN_BEGINS && !this.#is('announces a ban twice')) return;
    if (banDuration === 0 && this.#rules.banDuration === undefined) return;
    if (answer === BAN_BEGINS) this.#counts.bansBegun += 1;
    const ban: Ban = { key, violations: state?.violations ?? 0, banDuration };
    this.#host.onBan(ban);
  }

  #reserveSlot(now: number): boolean {
    const { maxPeers } = this.#host;
    if (this.#peers.size < maxPeers) {
      this.#chances += 1;
      return !(this.#is('refuses newcomers that have room') && this.#chances % 100 === 0);
    }
    if (this.#is('has no bound')) return true;
    const victim = this.#victim(now);
    if (victim === undefined) return false;
    const state = this.#peers.get(victim) as PeerState;
    this.#peers.delete(victim);
    this.#counts.evictions += 1;
    const counted = !this.#is('does not count what it forgets');
    if (counted && !this.#rules.isFresh(state, now)) this.#counts.lossyEvictions += 1;
    return true;
  }

  #victim(now: number): string | undefined {
    const { banDuration = 0 } = this.#rules;
    let violator: string | undefined;
    for (const [key, state] of this.#peers) {
      const { bannedAt, violations } = state;
      const banned = bannedAt !== undefined && secondsBetween(bannedAt, now) < banDuration;
      if (banned && !this.#is('evicts the banned')) continue;
      if (violations === 0) return key;
      violator ??= key;
    }
    return violator;
  }
}

type Row = readonly [
  digest: string,
  idleSeconds: number | null,
  tokens: number | null,
  bucketIdleSeconds: number | null,
];

/** Of each key that was asked for: to hash it again each time would take a fifth of the test. */
const digests = new Map<string, string>();

function digestOf(key: string): string {
  const state = digests.get(key);
  if (state !== undefined) return state;
  const digest = createHash('sha256').update(key, 'utf16le').digest('hex').slice(0, 32);
  digests.set(key, digest);
  return digest;
}

function isCost(query: Query): boolean {
  return query.kind !== 'tokens' || (query.cost >= 0 && Number.isFinite(query.cost));
}
