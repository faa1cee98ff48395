// The engine interface: what the facades ask of whoever keeps the peers. These comments are the
// specification of both engines; SPEC numbers behaviour comes from the reference, JoinMarket-NG 0.37.0.
//
// Facades validate before they call: a key is a string, a cost finite and not negative, an age no
// NaN, `now` finite or undefined (the engine then reads its own monotonic clock, once).

import type { BansInForce, EngineName, SnapshotPeer, Violator } from '../common/types.js';
import type { DigestColumns, OffenderColumns } from './columns.js';

/** What a check that can ban answers; undefined, the cheapest value to return, means allowed. */
export const REFUSED = 1;
export const BAN_BEGINS = 2;
export type Refusal = typeof REFUSED | typeof BAN_BEGINS;

/** What `RateLimiter`'s check answers instead of a delay when the peer is to be disconnected. */
export const DISCONNECT = -1;

/** Verdicts of `checkGroup`, one byte a member. */
export const VERDICT_ALLOW = 0;
export const VERDICT_DELAY = 1;
export const VERDICT_DISCONNECT = 2;

/** How many violators statistics name. */
export const TOP_VIOLATORS = 10;

/** Totals since the limiter was made. */
export interface EngineCounters {
  /**
   * What all checks answered, by key, of opened peers and of groups. Where they answer true or false:
   * true is allow, false disconnect if a ban is in force or begins with the check, and else delay.
   */
  verdicts: { allow: number; delay: number; disconnect: number };
  bansBegun: number;
  /** Peers that were forgotten to make room for a newcomer. */
  evictions: number;
  /** Of them those that a fresh peer could be told from. */
  lossyEvictions: number;
  /** Checks that were refused since nobody could be forgotten for a newcomer. */
  refusedNewcomers: number;
}

export interface EngineStatistics extends EngineCounters {
  /** Peers that anything is known of: at most `maxPeers`. */
  peers: number;
  /** Peers with a bucket, or with an interval where a limiter has no buckets. */
  tracked: number;
  /** The violations of all peers, banned ones included; 2^53 - 1 where they are more. */
  totalViolations: number;
  /**
   * Offenders whose key is not kept, which no statistics and no snapshots name. A key of up to 128
   * code units always is; one of up to 1,024 while all longer ones, at two bytes a unit, together take
   * at most 1 MiB or 64 bytes for each of `maxPeers`, if that is more; one beyond that while they take
   * at most a quarter of it. Which it is, is decided as its peer becomes an offender.
   */
  unnamedOffenders: number;
  /** At most TOP_VIOLATORS, most violations first; ties by who offended first. */
  topViolators: Violator[];
  /** Bytes of the tables, where the engine knows them. */
  memoryBytes?: number;
}

/** A bucket or an interval that is as a fresh peer's again within so many seconds is not in a snapshot. */
export const SNAPSHOT_SECONDS = 10;

/** A step of a snapshot; it may have found nobody. */
export interface SnapshotStep {
  readonly peers: SnapshotPeer[];
  /** If there are none, with the limiter's own secret. */
  readonly digests: DigestColumns;
}

/** What all three limiters of an engine do. An offender is a peer with violations or a ban. */
export interface LimiterCore {
  /** Forgets a peer, its violations and its ban; an unknown key is no error. */
  removePeer(key: string): void;
  /** Violations of a peer, 0 for an unknown one; they stop at 2^53 - 1. Creates nothing. */
  violations(key: string): number;
  /**
   * Removes what has been idle for more than `maxAge` seconds, and bans that are over. Stops about
   * `budgetMs` of real time later (Infinity: never), having done at least one step; the next call
   * with a finite budget goes on from there. Returns the number of peers removed.
   */
  cleanup(maxAge: number, budgetMs: number, now?: number): number;
  /** Whether the last cleanup with a finite budget stopped before its end. */
  isCleaning(): boolean;
  /**
   * What a snapshot holds, in steps of about `most` peers between which the limiter may go on; each reads
   * `now` once. First the offenders that are named, in the order of their first violations; behind them
   * those without violations, in the order in which their bans were recorded. An offender whose ban is
   * over is left out, with its violations: so a check would find it. Idle is the time since its last
   * refill, or in a limiter that bans since its last allowed request. Then, under digests, all others
   * whose bucket is not full or whose interval is not over within SNAPSHOT_SECONDS, and those whom
   * restoreDigests has put back and nobody has asked for. Changes nothing.
   */
  snapshot(most: number, now: () => number | undefined): Iterable<SnapshotStep>;
  /**
   * Puts offenders back, in that order, and returns how many. Bans have at least a moment left and at
   * most their duration. Of a peer that is known violations become the larger of both, of two
   * bans the one that ends later is kept, and of two buckets the emptier one. Any other gets the
   * snapshot's bucket or a full one, and a time, as long ago as it was idle; if that is unknown, long
   * ago. (Where there are no buckets, a banned one then gets no time.) A restored peer evicts only peers that
   * cost less to lose; if there are none, it is not restored. Bans of the very same instant are ordered
   * as they are restored.
   */
  restore(offenders: OffenderColumns, now?: number): number;
  /**
   * Takes over a secret for its own digests, if it knows nobody: the digests of a snapshot are then those
   * of its own keys.
   */
  adopt(secret: Uint32Array): void;
  /**
   * Keeps peers under digests until a check asks for them by a key that has the digest; returns how
   * many: at most `maxPeers`, and under at most sixteen secrets. They count as peers only then; a peer
   * that is known by then stays as it is. Cleanup forgets those that are as fresh peers.
   */
  restoreDigests(digests: DigestColumns, now?: number): number;
  /** Reads state, changes none. Names the worst alone: bans may be many. */
  statistics(): EngineStatistics;
  /** Forgets every peer. */
  clear(): void;
}

/** Limiters that ban. A ban is in force until its duration is over, whether a check found that or not. */
export interface BanningCore extends LimiterCore {
  /** Whether a ban is in force. */
  isBanned(key: string, now?: number): boolean;
  /** Keys of the bans in force that are named, in the order the bans began. */
  bannedKeys(now?: number): string[];
  /**
   * How many bans are in force, named or not; and of those that `bannedKeys` names the last `most`, the
   * last one, which has the longest left, first. In one pass, with memory for about `most`.
   */
  longestBans(most: number, now?: number): BansInForce;
}

/**
 * Where an opened peer's record was found the last time: a place, and two words that tell whose
 * record that was. The caller writes it before each check of an opened peer. A check that does not
 * find the record there goes by the key, and writes where the record is now; so whatever is written
 * here, the answer is that of the key. All limiters share it: as arguments the three numbers would
 * cost a native call some 14 ns more.
 */
export const SLOT_BUFFER: Int32Array = new Int32Array(new ArrayBuffer(12));

/** What an engine remembers of a group; only the core that made it may be given it. */
export type Handle = { readonly __handle: never } | undefined;

/** Limiters whose peers can be put in groups: those with buckets. */
export interface BucketCore<Answer> extends LimiterCore {
  /** Answers what the check of `key` does, of an opened peer: SLOT_BUFFER is of its bucket. */
  checkPeer(key: string, cost?: number, now?: number): Answer | undefined;
  /** Tokens of a peer as of its last check, a full bucket's for an unknown one; creates nothing. */
  tokens(key: string): number;
  /** A group without members. */
  openGroup(): Handle;
  /** Adds a member at the end. */
  addMember(group: Handle, key: string): void;
  /** Takes out the member at `index`; the last one takes its place. */
  removeMember(group: Handle, index: number): void;
  /**
   * Checks all members at one instant. `keys` are theirs, in their order; `verdicts` has at least as
   * many bytes.
   */
  checkGroup(
    group: Handle,
    keys: readonly string[],
    verdicts: Uint8Array,
    cost?: number,
    now?: number,
  ): void;
}

/**
 * Where `maxPeers` peers are known a newcomer, whatever is to be remembered of it, takes the place of
 * another. A few are looked at, and of them goes, in this order: one that cannot be told from a fresh
 * one (its bucket full, its interval over, no offender); who is no offender, the one that is so
 * soonest; the offender with the fewest violations, of these who was idle the longest. Whose ban is
 * over is no offender, since a check forgives it, and where that resets its interval it is as a fresh
 * one; a peer whose ban is in force never goes. If none of the few can go, more are looked at until one
 * can, up to 1,024 of a table; if none of those can either, the newcomer is refused, and nothing is kept
 * or counted of it but `refusedNewcomers` and the verdict. A search may be left out where every peer is
 * banned. Eviction compares sixteen random peers and removes the cheapest; if none of them can be removed, it looks
 * at up to 1,024 and removes the first that can.
 */
interface BoundedConfig {
  /** Infinity: no bound but the engine's own: 2^23 of the TypeScript one, and memory. */
  readonly maxPeers: number;
}

export interface RateLimiterConfig extends BoundedConfig {
  readonly rateLimit: number;
  readonly burstLimit: number;
  /** null: never. */
  readonly disconnectThreshold: number | null;
}

export interface RateLimiterCore extends BucketCore<number> {
  /**
   * Takes `cost` (default 1) from the peer's bucket, made full if it has none. Undefined: taken.
   * Else a violation is counted, and the answer is DISCONNECT at the threshold, or the seconds
   * until the cost is there, Infinity if it exceeds the burst.
   */
  check(key: string, cost?: number, now?: number): number | undefined;
  /** Seconds until one token is there, as of the peer's last check; 0 for an unknown peer. */
  delay(key: string): number;
}

export interface OrderbookConfig extends BoundedConfig {
  readonly interval: number;
  readonly violationBanThreshold: number;
  readonly violationWarningThreshold: number;
  readonly violationSevereThreshold: number;
  readonly banDuration: number;
}

export interface OrderbookCore extends BanningCore {
  /** Allowed once an interval, which grows with the violations, at a threshold into a ban. */
  check(key: string, now?: number): Refusal | undefined;
  /** The same of an opened peer: SLOT_BUFFER is of the time of its last request. */
  checkPeer(key: string, now?: number): Refusal | undefined;
  /** Whether a ban is in force; one that is over is lifted with its violations. */
  isBanned(key: string, now?: number): boolean;
}

export interface DirectConfig extends BoundedConfig {
  readonly messageRatePerSec: number;
  readonly messageBurst: number;
  readonly orderbookInterval: number;
  readonly orderbookBanThreshold: number;
  readonly banDuration: number;
}

export interface DirectCore extends BucketCore<typeof REFUSED>, BanningCore {
  /**
   * Takes `cost` (default 1) from the connection's message bucket. A refusal counts no violation,
   * and neither does a message during a ban. In a group a banned connection is to be disconnected.
   */
  checkMessage(key: string, cost?: number, now?: number): typeof REFUSED | undefined;
  /** Allowed once an interval; each refusal is a violation, and the last one before the threshold bans. */
  checkOrderbook(key: string, now?: number): Refusal | undefined;
  /** The same of an opened connection: SLOT_BUFFER is of the time of its last request. */
  checkPeerOrderbook(key: string, now?: number): Refusal | undefined;
  /** Whether a ban is in force; one that is over is lifted, and its violations stay. */
  isBanned(key: string, now?: number): boolean;
}

/**
 * Tokens that may be spent until a time, by peer: what a shared limiter has taken ahead of use. Nothing
 * comes in by itself, and nobody is forgotten to make room.
 */
export interface LeaseTable {
  /** Monotonic seconds: the clock that is read where a time is left out. */
  now(): number;
  /** Takes `cost` if the peer has so much, and the time is not over. Undefined: taken. */
  spend(key: string, cost: number, now?: number): typeof REFUSED | undefined;
  /**
   * The peer may spend `tokens` before `until`, instead of what it might. @throws `ERR_LIMITER_MEMORY`
   * where a new peer finds no memory; of a known one with a key of at most 129 units it needs none.
   */
  set(key: string, tokens: number, until: number): void;
  /** What is not spent, whether its time is over or not; 0 for an unknown peer. */
  tokens(key: string): number;
  /** Forgets a peer; an unknown key is no error. */
  delete(key: string): void;
  /** What all peers may spend, in a pass over them; added up in any order, so the last bits may differ. */
  total(now: number): number;
}

export interface Engine {
  readonly name: EngineName;
  rateLimiter(config: RateLimiterConfig): RateLimiterCore;
  orderbook(config: OrderbookConfig): OrderbookCore;
  direct(config: DirectConfig): DirectCore;
  leaseTable(): LeaseTable;
}
