// One scope of the model: its peers, levels and bans, room and snapshots.

import type { BansInForce } from '../../../dist/common/types.js';
import {
  RULE_DIGEST_NUMBERS,
  RULE_OFFENDER_NUMBERS,
  type RuleBanConfig,
  type RuleDigestColumns,
  type RuleKeys,
  type RuleOffenderColumns,
  type RuleScopeStatistics,
  type RuleSnapshotStep,
} from '../../../dist/engine/rules.js';
import { elapsed, type ModelRates, NEVER, type Peer } from './rates.js';

/** A slot that has nothing used within so many seconds is not saved. */
const SNAPSHOT_SECONDS = 10;
const MAX_VIOLATIONS = Number.MAX_SAFE_INTEGER;

/** Compared from left to right: whether the peer is an offender, its violations, seconds until fresh or minus idle. */
type EvictionCost = readonly [number, number, number];

const COST_OF_BANNED: EvictionCost = [1, Infinity, Infinity];
const COST_OF_FRESH: EvictionCost = [0, 0, 0];

export class ModelScope {
  readonly index: number;
  readonly isSingle: boolean;
  refusedNewcomers = 0;
  readonly #rates: ModelRates;
  readonly #maxPeers: number;
  /** The state of a single scope. */
  #state: Peer;
  readonly #peers = new Map<string, Peer>();
  readonly #pending = new Map<string, Peer>();
  #lastOrder = 0;
  #bansBegun = 0;
  #evictions = 0;
  #lossyEvictions = 0;

  constructor(index: number, isSingle: boolean, rates: ModelRates, maxPeers: number) {
    this.index = index;
    this.isSingle = isSingle;
    this.#rates = rates;
    this.#maxPeers = maxPeers;
    this.#state = rates.fresh('', NEVER);
  }

  /** The peer as it is stored or pending, or a fresh one. */
  find(keys: RuleKeys, time: number): Peer {
    return this.isSingle ? this.#state : this.#findKey(keys[this.index] as string, time);
  }

  isStored(peer: Peer): boolean {
    return this.isSingle || this.#peers.has(peer.key);
  }

  /** Stores a peer unless it is stored already. False if there is no room. */
  store(peer: Peer, time: number, cost = COST_OF_BANNED): boolean {
    if (this.isStored(peer)) return true;
    if (!this.hasRoom(time, cost)) return false;
    if (this.#peers.size >= this.#maxPeers) this.#evict(this.#victim(time, cost) as Peer, time);
    this.#peers.set(peer.key, peer);
    this.#pending.delete(peer.key);
    return true;
  }

  hasRoom(time: number, cost = COST_OF_BANNED): boolean {
    return this.#peers.size < this.#maxPeers || this.#victim(time, cost) !== undefined;
  }

  /** Counts a violation of a stored peer. Returns the length of the ban that begins, or undefined. */
  addViolation(peer: Peer, random: number, time: number): number | undefined {
    this.#raiseViolations(peer, Math.min(peer.violations + 1, MAX_VIOLATIONS));
    const policy = this.#policy;
    if (policy === undefined) return undefined;
    peer.level = this.#level(peer, time) + 1;
    peer.levelAt = Math.max(peer.levelAt, time);
    if (!(peer.level >= policy.violations)) return undefined;
    peer.level = 0;
    const n = this.#banLevel(peer, time);
    peer.banLevel = n + 1;
    const step = policy.seconds[Math.min(n, policy.seconds.length - 1)] as number;
    const seconds = step * (1 + policy.jitter * (2 * random - 1));
    peer.banEnd = time + seconds;
    this.#bansBegun += 1;
    return seconds;
  }

  ban(key: string, seconds: number, time: number): boolean {
    const peer = this.#findKey(key, time);
    if (!this.store(peer, time)) return false;
    // What is forgotten of the ban level stays forgotten.
    if (!(time < peer.banEnd)) peer.banLevel = this.#banLevel(peer, time);
    peer.banEnd = Math.max(peer.banEnd, time + seconds);
    return true;
  }

  unban(key: string, time: number): boolean {
    const peer = this.#peers.get(key);
    if (peer === undefined || !(time < peer.banEnd)) return false;
    peer.banEnd = time;
    return true;
  }

  longestBans(most: number, time: number): BansInForce {
    const banned = [...this.#peers.values()].filter(({ banEnd }) => time < banEnd);
    banned.sort((a, b) => {
      if (a.banEnd !== b.banEnd) return b.banEnd - a.banEnd;
      return a.key < b.key ? -1 : 1;
    });
    const bans = banned.map(({ key, banEnd }): [string, number] => [key, banEnd - time]);
    return { count: bans.length, bans: bans.slice(0, most) };
  }

  violations(key: string): number {
    return this.#peers.get(key)?.violations ?? 0;
  }

  remove(key: string): void {
    this.#peers.delete(key);
    this.#pending.delete(key);
  }

  clear(): void {
    this.#peers.clear();
    this.#pending.clear();
    this.#state = this.#rates.fresh('', NEVER);
  }

  cleanup(maxIdle: number, time: number): number {
    const isFresh = (peer: Peer) => {
      const isIdle = elapsed(time, peer.at) > maxIdle;
      return isIdle && this.#rates.secondsUntilFresh(this.index, peer, time) === 0;
    };
    const removed = [...this.#peers.values()].filter(
      (peer) => isFresh(peer) && !(time < peer.banEnd) && !this.#isRemembered(peer, time),
    );
    for (const { key } of removed) this.#peers.delete(key);
    for (const peer of [...this.#pending.values()].filter(isFresh)) this.#pending.delete(peer.key);
    return removed.length;
  }

  statistics(): RuleScopeStatistics {
    const violators = [...this.#peers.values()].filter(({ violations }) => violations > 0);
    violators.sort((a, b) => b.violations - a.violations || a.order - b.order);
    const total = violators.reduce((sum, { violations }) => sum + BigInt(violations), 0n);
    return {
      peers: this.#peers.size,
      totalViolations: Math.min(Number(total), MAX_VIOLATIONS),
      unnamedOffenders: 0,
      topViolators: violators.slice(0, 10).map(({ key, violations }) => [key, violations]),
      bansBegun: this.#bansBegun,
      evictions: this.#evictions,
      lossyEvictions: this.#lossyEvictions,
      refusedNewcomers: this.refusedNewcomers,
    };
  }

  snapshot(time: number): RuleSnapshotStep {
    const isOffender = (peer: Peer) => peer.violations > 0 || time < peer.banEnd;
    const rank = ({ violations, order }: Peer) => (violations > 0 ? order : Infinity);
    const offenders = [...this.#peers.values()].filter(isOffender);
    offenders.sort((a, b) => (rank(a) === rank(b) ? 0 : rank(a) - rank(b)));
    const rows = offenders.map((peer) => {
      const isBanned = time < peer.banEnd;
      const sinceBan = isBanned || peer.banEnd === NEVER ? Number.NaN : time - peer.banEnd;
      return [
        ...[peer.violations, this.#level(peer, time), peer.banLevel],
        ...[isBanned ? peer.banEnd - time : Number.NaN, sinceBan, elapsed(time, peer.at)],
        ...this.#savedUsed(peer, time),
      ];
    });
    const others = [...this.#pending.values(), ...this.#peers.values()].filter((peer) => {
      const isSaved = this.#savedUsed(peer, time).some((used) => !Number.isNaN(used));
      return isSaved && !isOffender(peer);
    });
    const digestRows = others.map((peer) => [
      elapsed(time, peer.at),
      ...this.#savedUsed(peer, time),
    ]);
    return {
      offenders: {
        keys: offenders.map(({ key }) => key),
        numbers: Float64Array.from(rows.flat()),
      },
      digests: {
        secret: new Uint32Array(4),
        digests: Uint32Array.from(others.flatMap(({ key }) => [numberOf(key), 0, 0, 0])),
        numbers: Float64Array.from(digestRows.flat()),
      },
    };
  }

  restore({ keys, numbers }: RuleOffenderColumns, time: number): number {
    const isRestored = keys.map((key, i) => {
      const from = i * RULE_OFFENDER_NUMBERS;
      return this.#restorePeer(
        key,
        [...numbers.subarray(from, from + RULE_OFFENDER_NUMBERS)],
        time,
      );
    });
    return isRestored.filter(Boolean).length;
  }

  restoreDigests({ digests, numbers }: RuleDigestColumns, time: number): number {
    const peers = digests.length / 4;
    for (let i = 0; i < peers; i += 1) {
      const key = KEYS[digests[i * 4] as number] as string;
      const from = i * RULE_DIGEST_NUMBERS;
      const [idle, ...used] = numbers.subarray(from, from + RULE_DIGEST_NUMBERS);
      this.#pending.set(key, this.#savedPeer(key, idle as number, used, time));
    }
    return peers;
  }

  saveSingle(time: number): Float64Array {
    const state = this.#state;
    return Float64Array.of(elapsed(time, state.at), ...this.#savedUsed(state, time));
  }

  restoreSingle([idle, ...used]: number[], time: number): void {
    this.#mergeUsed(this.#state, this.#savedPeer('', idle as number, used, time), time);
  }

  get #policy(): RuleBanConfig | undefined {
    return this.#rates.plan.bans[this.index];
  }

  #findKey(key: string, time: number): Peer {
    return this.#peers.get(key) ?? this.#pending.get(key) ?? this.#rates.fresh(key, time);
  }

  #raiseViolations(peer: Peer, violations: number): void {
    if (peer.violations === 0 && violations > 0) {
      this.#lastOrder += 1;
      peer.order = this.#lastOrder;
    }
    peer.violations = Math.max(peer.violations, violations);
  }

  /** The level that leads to bans, as of now. */
  #level({ level, levelAt }: Peer, time: number): number {
    const policy = this.#policy;
    if (policy === undefined) return level;
    const left = level - elapsed(time, levelAt) * (policy.violations / policy.withinSeconds);
    return left > 0 ? left : 0;
  }

  /** The ban level, less what is forgotten by now. */
  #banLevel({ banLevel, banEnd }: Peer, time: number): number {
    const forgetAfter = this.#policy?.forgetAfterSeconds ?? Infinity;
    if (forgetAfter === Infinity) return banLevel;
    return Math.max(0, banLevel - Math.floor(elapsed(time, banEnd) / forgetAfter));
  }

  /** Whether cleanup keeps a fresh peer for its levels. */
  #isRemembered(peer: Peer, time: number): boolean {
    const policy = this.#policy;
    if (policy === undefined) return false;
    if (this.#level(peer, time) > 0) return true;
    return policy.forgetAfterSeconds < Infinity && this.#banLevel(peer, time) > 0;
  }

  #evict(victim: Peer, time: number): void {
    this.#evictions += 1;
    if (isLower(COST_OF_FRESH, this.#evictionCost(victim, time))) this.#lossyEvictions += 1;
    this.#peers.delete(victim.key);
  }

  /** The peer with the lowest cost, if that is below the newcomer's. */
  #victim(time: number, newcomerCost: EvictionCost): Peer | undefined {
    let victim: Peer | undefined;
    let lowest = newcomerCost;
    for (const peer of this.#peers.values()) {
      const cost = this.#evictionCost(peer, time);
      if (isLower(cost, lowest)) [victim, lowest] = [peer, cost];
    }
    return victim;
  }

  #evictionCost(peer: Peer, time: number): EvictionCost {
    if (time < peer.banEnd) return COST_OF_BANNED;
    if (peer.violations > 0) return [1, peer.violations, -elapsed(time, peer.at)];
    return [0, 0, this.#rates.secondsUntilFresh(this.index, peer, time)];
  }

  #savedUsed(peer: Peer, time: number): number[] {
    const { used } = this.#rates.refilled(this.index, peer, time);
    return used.map((tokens, slot) => {
      const seconds = this.#rates.secondsUntilUnused(this.index, slot, tokens);
      return seconds > SNAPSHOT_SECONDS ? (peer.used[slot] as number) : Number.NaN;
    });
  }

  #savedPeer(key: string, idle: number, used: number[], time: number): Peer {
    const peer = this.#rates.fresh(key, time - idle);
    peer.used = used.map((tokens) => (Number.isNaN(tokens) ? 0 : tokens));
    this.#rates.settle(this.index, peer);
    return peer;
  }

  #restorePeer(key: string, row: number[], time: number): boolean {
    const [violations, level, banLevel, banLeft, sinceBan, idle] = row as [
      ...[number, number, number, number, number, number],
    ];
    const saved = this.#savedPeer(key, idle, row.slice(6), time);
    Object.assign(saved, { level, levelAt: time, banLevel });
    if (!Number.isNaN(banLeft)) saved.banEnd = time + banLeft;
    else if (!Number.isNaN(sinceBan)) saved.banEnd = time - sinceBan;
    const known = this.#peers.get(key);
    if (known !== undefined) {
      this.#mergeUsed(known, saved, time);
      known.level = Math.max(this.#level(known, time), level);
      known.levelAt = Math.max(known.levelAt, time);
      known.banLevel = Math.max(known.banLevel, banLevel);
      known.banEnd = Math.max(known.banEnd, saved.banEnd);
      this.#raiseViolations(known, violations);
      return true;
    }
    const pending = this.#pending.get(key);
    const cost = this.#evictionCost({ ...saved, violations }, time);
    if (!this.store(saved, time, cost)) return false;
    if (pending !== undefined) this.#mergeUsed(saved, pending, time);
    this.#raiseViolations(saved, violations);
    return true;
  }

  #mergeUsed(peer: Peer, other: Peer, time: number): void {
    this.#rates.refill(this.index, peer, 0, time);
    this.#rates.refill(this.index, other, 0, time);
    peer.used = peer.used.map((used, slot) => Math.max(used, other.used[slot] as number));
  }
}

function isLower(a: EvictionCost, b: EvictionCost): boolean {
  const differs = a.findIndex((number, i) => number !== b[i]);
  return differs !== -1 && (a[differs] as number) < (b[differs] as number);
}

// The digests of the model: a number for each key, which all models share.
const KEYS: string[] = [];
const NUMBERS = new Map<string, number>();

function numberOf(key: string): number {
  const known = NUMBERS.get(key);
  if (known !== undefined) return known;
  NUMBERS.set(key, KEYS.length);
  return KEYS.push(key) - 1;
}
