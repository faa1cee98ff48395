// The interface between the public classes (facades) and an engine, which stores the peers. These comments are the
// specification of both engines; the numbers come from the reference, JoinMarket-NG 0.37.0.
//
// Facades validate arguments before they call: a key is a string, a cost is finite and at least 0, an age is not NaN,
// and `now` is finite or undefined. If `now` is undefined, the engine reads its own monotonic clock, once.

import type { BansInForce, EngineName, SnapshotPeer, Violator } from '../common/types.js';
import type { DigestColumns, OffenderColumns } from './columns.js';
import type { RulesConfig, RulesCore, SharedRulesCore } from './rules.js';

/** The results of a check that can ban. Undefined, the cheapest value to return, means allowed. */
export const REFUSED = 1;
export const BAN_BEGINS = 2;
export type Refusal = typeof REFUSED | typeof BAN_BEGINS;

/** The result of `RateLimiter`'s check, in place of a delay, if the peer must be disconnected. */
export const DISCONNECT = -1;

/** Verdicts of `checkGroup`, one byte per member. */
export const VERDICT_ALLOW = 0;
export const VERDICT_DELAY = 1;
export const VERDICT_DISCONNECT = 2;

/** The maximum number of violators that statistics list. */
export const TOP_VIOLATORS = 10;

/** Totals since the limiter was created. */
export interface EngineCounters {
  /**
   * The verdicts of all checks: by key, of opened peers and of groups. For checks that return a boolean,
   * true counts as allow. False counts as disconnect if a ban is in force or begins with the check, and
   * as delay otherwise.
   */
  verdicts: { allow: number; delay: number; disconnect: number };
  bansBegun: number;
  /** Peers that were removed to make room for a new peer. */
  evictions: number;
  /** Evictions that lost something: the evicted peer was not in its initial state. */
  lossyEvictions: number;
  /** Checks of new peers that were refused because no peer could be evicted. */
  refusedNewcomers: number;
}

export interface EngineStatistics extends EngineCounters {
  /** The number of stored peers, at most `maxPeers`. */
  peers: number;
  /** Peers with a bucket, or with an interval in a limiter without buckets. */
  tracked: number;
  /** The violations of all peers, banned ones included; at most 2^53 - 1. */
  totalViolations: number;
  /**
   * Offenders without a stored key: statistics and snapshots do not list them. A key of up to 128 code
   * units is always stored. Longer keys share a budget of 1 MiB, or of 64 bytes for each of `maxPeers` if
   * that is more, at two bytes per unit: a key of up to 1,024 units is stored if it fits the budget, a
   * longer one only if the longer keys together stay within a quarter of it. This is decided once, when
   * the peer becomes an offender.
   */
  unnamedOffenders: number;
  /** At most TOP_VIOLATORS, most violations first; ties in the order of first violations. */
  topViolators: Violator[];
  /** Bytes of the tables; absent if the engine does not know them. */
  memoryBytes?: number;
}

/** A bucket or an interval that is back in its initial state within so many seconds is not saved. */
export const SNAPSHOT_SECONDS = 10;

/** A step of a snapshot; it may contain no peer. */
export interface SnapshotStep {
  readonly peers: SnapshotPeer[];
  /** If the step has no digests, they are an empty list under the limiter's own secret. */
  readonly digests: DigestColumns;
}

/** The methods that all three limiters of an engine have. An offender is a peer with violations or a ban. */
export interface LimiterCore {
  /** Removes a peer, its violations and its ban; an unknown key is no error. */
  removePeer(key: string): void;
  /** The violations of a peer, at most 2^53 - 1; 0 for an unknown one. Adds no peer. */
  violations(key: string): number;
  /**
   * Removes records that have been idle for more than `maxAge` seconds, and bans that are over. After at
   * least one step it stops when about `budgetMs` of real time are over (Infinity: never), and the next
   * call with a finite budget resumes there. Returns the number of removed peers.
   */
  cleanup(maxAge: number, budgetMs: number, now?: number): number;
  /** Whether the last cleanup with a finite budget stopped before the end. */
  isCleaning(): boolean;
  /**
   * The content of a snapshot, in steps of about `most` peers. Between two steps the limiter may be used;
   * each step reads `now` once. The offenders with a stored key come first: those with violations in the
   * order of their first violations, then the others in the order in which their bans were recorded. An
   * offender with a ban that is over is left out with its violations, because a check would remove them.
   * `idleSeconds` counts from the last refill, or in a limiter with bans from the last allowed request.
   * Other peers follow under digests: those with a bucket that is not full, or an interval that is not
   * over, within SNAPSHOT_SECONDS, and the pending peers of restoreDigests(). Changes nothing.
   */
  snapshot(most: number, now: () => number | undefined): Iterable<SnapshotStep>;
  /**
   * Restores offenders in the given order, and returns their number. The remaining time of a ban must be
   * above 0 and at most the duration of a ban. For a known peer it keeps the higher number of violations,
   * the ban that ends later and the emptier bucket. A new peer gets the snapshot's bucket or a full one,
   * and a time `idleSeconds` ago, or long ago if that is unknown (in a limiter without buckets, a banned
   * peer then gets no time). A restored peer evicts only peers with a lower eviction cost; if there are
   * none, it is not restored. Bans of the same instant are ordered as they are restored.
   */
  restore(offenders: OffenderColumns, now?: number): number;
  /**
   * Adopts a secret for its own digests if it has no peers. Then the digests of a snapshot with that
   * secret are those of its own keys.
   */
  adopt(secret: Uint32Array): void;
  /**
   * Stores peers under digests, and returns their number: at most `maxPeers`, and under at most 16
   * secrets. They are pending until a check of a key with the digest; only then do they count as peers. A
   * peer that is stored by then stays as it is. Cleanup removes pending peers that are back in their
   * initial state.
   */
  restoreDigests(digests: DigestColumns, now?: number): number;
  /** Changes nothing. Lists no bans, because there may be many. */
  statistics(): EngineStatistics;
  /** Removes every peer. */
  clear(): void;
}

/** A limiter with bans. A ban is in force until its duration is over, even if no check has removed it yet. */
export interface BanningCore extends LimiterCore {
  /** Whether a ban is in force. */
  isBanned(key: string, now?: number): boolean;
  /**
   * Ends a ban in force and returns true. Of an OrderbookCore the violations are removed and the next request is
   * allowed, of a DirectCore the violations stay: what isBanned() does with a ban that is over. Without a ban in force
   * it returns false and changes nothing.
   */
  unban(key: string, now?: number): boolean;
  /** The seconds that a ban in force has left; 0 without one. Changes nothing. */
  banSecondsLeft(key: string, now?: number): number;
  /** Keys of the bans in force with a stored key, in the order in which the bans began. */
  bannedKeys(now?: number): string[];
  /**
   * The number of bans in force, and the last `most` of those that `bannedKeys` lists, the longest
   * remaining time first. One pass, with memory for about `most` bans.
   */
  longestBans(most: number, now?: number): BansInForce;
}

/**
 * The slot of an opened peer: the place of its record at the last check, and two words that identify the
 * peer. The caller writes the slot before each check of an opened peer. If the record is not at that
 * place, the check finds it by the key and writes its place here. So any content leads to the result for
 * the key. All limiters share the buffer: passing the three numbers as arguments would cost a native call
 * about 14 ns more.
 */
export const SLOT_BUFFER: Int32Array = new Int32Array(new ArrayBuffer(12));

/** An engine's data of a group. Pass it only to the core that created it. */
export type Handle = { readonly __handle: never } | undefined;

/** A limiter with buckets. Its peers can be put in groups. */
export interface BucketCore<Answer> extends LimiterCore {
  /** Checks an opened peer, with the result of a check of `key`. SLOT_BUFFER holds the slot of its bucket. */
  checkPeer(key: string, cost?: number, now?: number): Answer | undefined;
  /** The tokens of a peer at its last check; those of a full bucket for an unknown peer. Adds no peer. */
  tokens(key: string): number;
  /** Creates a group without members. */
  openGroup(): Handle;
  /** Adds a member at the end. */
  addMember(group: Handle, key: string): void;
  /** Removes the member at `index`; the last member moves there. */
  removeMember(group: Handle, index: number): void;
  /**
   * Checks all members at one instant. `keys` are the members' keys in their order; `verdicts` has at
   * least as many bytes.
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
 * Eviction: if there are `maxPeers` peers, a new peer replaces another one. Eviction compares 16 random peers
 * and removes the first in this order:
 *
 * 1. a peer in its initial state: its bucket is full, its interval is over, and it is no offender;
 * 2. the clean peer closest to that state;
 * 3. the offender with the fewest violations, least recently active first.
 *
 * A peer with a ban that is over is no offender, because a check forgives it; if that resets its interval,
 * it is in its initial state. A peer with a ban in force is never evicted. If none of the 16 can be evicted,
 * a search of up to 1,024 records of a table evicts the first one that can be. If none can, the new peer is
 * refused: nothing is stored of it, and only `refusedNewcomers` and the verdict are counted. The search may
 * be omitted if every peer is banned.
 */
interface BoundedConfig {
  /** Infinity means no limit except the engine's own: 2^23 in the TypeScript engine, and memory. */
  readonly maxPeers: number;
  /**
   * The absolute path of the file that contains the table, if processes share it; undefined for a private
   * table. See SharedCore. Only the native engine has shared tables; the TypeScript engine is never given a path.
   */
  readonly sharedPath?: string | undefined;
}

/**
 * A limiter whose table lies in a file that all processes and threads of a machine share. The first one
 * creates the file, the others attach to it. It has the methods of its class, for the whole machine, with
 * these differences:
 *
 * - The constructor throws `ERR_LIMITER_SHARED` if the file is not one of ours, is not safe to use, or was
 *   created with other numbers (the message names the first that differs, and both values), and
 *   `ERR_LIMITER_MEMORY` if there is not enough room for it. `maxPeers` must be finite, at most 2^26.
 * - The file has room for at least `maxPeers` peers and stores at most a quarter more. A newcomer whose part of the
 *   table is full evicts a peer of that part.
 * - A key of more than 128 code units is not stored: the offender is counted in `unnamedOffenders`.
 * - `now` is an instant of the system's monotonic clock. A call uses the latest instant that any process has used for
 *   the same part of the table, if that is later.
 * - If a process is stopped, or gets no processor time, while it changes a part of the table, checks of other processes
 *   wait for it for up to 0.2 seconds, other calls for up to a second, and later calls only for the rest of that. Until
 *   it continues or ends, a check of a peer in that part is refused with a delay of STALLED_SECONDS: no violation
 *   and no ban. Other calls throw `ERR_LIMITER_SHARED` with its process id. cleanup() skips the part.
 * - restoreDigests() restores only digests under the limiter's own secret, as peers; adopt() works as
 *   long as the whole machine has stored no peer.
 */
export interface SharedCore {
  /** The state of the file: O(number of attached limiters). */
  sharedState(): SharedState;
  /** Leaves the file. Each later call of any method throws `ERR_LIMITER_SHARED`. Collection does the same. */
  detach(): void;
}

/** A core with the methods of SharedCore if its config has a path. */
export type MaybeShared<Core> = Core & Partial<SharedCore>;

/** The seconds after which a check of a peer should be repeated whose part of a shared table is stalled. */
export const STALLED_SECONDS = 0.05;

export interface SharedState {
  readonly path: string;
  /** When the file was created, in milliseconds since 1970. */
  readonly createdAt: number;
  /** The limiters attached to it, of all processes and threads. */
  readonly attached: readonly AttachedLimiter[];
  /** Whether the path no longer leads to this file, because it was removed or replaced: newcomers get another one. */
  readonly isDetached: boolean;
}

export interface AttachedLimiter {
  readonly pid: number;
  /** In milliseconds since 1970. */
  readonly since: number;
}

/** What the header of a shared file says. A limiter with its config and path knows the rest. */
export interface SharedFile extends SharedState {
  /** The name of the public class. */
  readonly limiter: string;
  /** The numbers of its config by their names in the config, `maxPeers` included. */
  readonly config: Readonly<Record<string, number>>;
  /** The bytes of the file that are always allocated, and with the room for the keys of all possible offenders. */
  readonly bytes: number;
  readonly maxBytes: number;
  /** The rules in force as text; only of a RuleLimiter. */
  readonly rules?: string;
}

/** What can be done with a shared file without a limiter. The native engine has them. */
export interface SharedFiles {
  /**
   * The path of the file of a name; an absolute path stays as it is. @throws `ERR_LIMITER_OPTION` if it is neither, and
   * `ERR_LIMITER_SHARED` if there is no safe folder for files with names.
   */
  pathOf(nameOrPath: string): string;
  /** The names of this user's files, in alphabetical order. Files elsewhere are not found. */
  names(): string[];
  /**
   * Reads the header of a file. Returns undefined if the file does not exist.
   * @throws `ERR_LIMITER_SHARED` if the file is not one of ours or is not safe to use
   */
  inspect(path: string): SharedFile | undefined;
  /**
   * Removes a file, of another version and a damaged one too; attached limiters keep using it. Returns false if the file
   * does not exist.
   * @throws `ERR_LIMITER_SHARED` if the file is not one of ours or is not safe to use; and while a limiter is attached if
   * the file is of another version or damaged, or on Windows
   */
  remove(path: string): boolean;
}

export interface RateLimiterConfig extends BoundedConfig {
  readonly rateLimit: number;
  readonly burstLimit: number;
  /** null means never. */
  readonly disconnectThreshold: number | null;
}

export interface RateLimiterCore extends BucketCore<number> {
  /**
   * Takes `cost` (default 1) tokens from the peer's bucket; a new peer gets a full one. Returns undefined
   * if the bucket had enough. Otherwise counts a violation and returns DISCONNECT at the threshold, or the
   * seconds until the bucket has enough; Infinity if the cost exceeds the burst.
   */
  check(key: string, cost?: number, now?: number): number | undefined;
  /** Seconds from the peer's last check until its bucket has one token; 0 for an unknown peer. */
  delay(key: string): number;
  /** The tokens that a check at this moment would find; those of a full bucket for an unknown peer. Changes nothing. */
  refilledTokens(key: string, now?: number): number;
}

export interface OrderbookConfig extends BoundedConfig {
  readonly interval: number;
  readonly violationBanThreshold: number;
  readonly violationWarningThreshold: number;
  readonly violationSevereThreshold: number;
  readonly banDuration: number;
}

export interface OrderbookCore extends BanningCore {
  /** Allows one request per interval. The interval grows with the violations; at a threshold a ban begins. */
  check(key: string, now?: number): Refusal | undefined;
  /** The same for an opened peer. SLOT_BUFFER holds the slot of the time of its last request. */
  checkPeer(key: string, now?: number): Refusal | undefined;
  /** Whether a ban is in force. A ban that is over is removed with its violations. */
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
   * Takes `cost` (default 1) tokens from the connection's message bucket. Neither a refusal nor a message
   * during a ban counts a violation. In a group the verdict for a banned connection is disconnect.
   */
  checkMessage(key: string, cost?: number, now?: number): typeof REFUSED | undefined;
  /** Allows one request per interval. Each refusal is a violation; the one that reaches the threshold bans. */
  checkOrderbook(key: string, now?: number): Refusal | undefined;
  /** The same for an opened connection. SLOT_BUFFER holds the slot of the time of its last request. */
  checkPeerOrderbook(key: string, now?: number): Refusal | undefined;
  /** Whether a ban is in force. A ban that is over is removed; its violations stay. */
  isBanned(key: string, now?: number): boolean;
}

/**
 * A lease per peer: tokens that a shared limiter has taken in advance, and that the peer may spend until a
 * time. A lease is never refilled, and no peer is evicted.
 */
export interface LeaseTable {
  /** Monotonic seconds, from the clock that spend() reads by default. It counts the time for which the machine sleeps. */
  now(): number;
  /** Takes `cost` tokens. REFUSED if the lease has too few or has expired. */
  spend(key: string, cost: number, now?: number): typeof REFUSED | undefined;
  /**
   * Stores a lease in place of an earlier one: `tokens` that the peer may spend before `until`. @throws
   * `ERR_LIMITER_MEMORY` if there is no memory for a new peer; a known peer with a key of at most 129 units
   * needs none.
   */
  set(key: string, tokens: number, until: number): void;
  /** The tokens of a lease, expired or not; 0 for an unknown peer. */
  tokens(key: string): number;
  /** Removes a lease; an unknown key is no error. */
  delete(key: string): void;
  /**
   * The tokens of all leases that have not expired: O(leases). The order of addition, and so the last bits, may differ.
   */
  total(now: number): number;
}

export interface Engine {
  readonly name: EngineName;
  rateLimiter(config: RateLimiterConfig): MaybeShared<RateLimiterCore>;
  orderbook(config: OrderbookConfig): MaybeShared<OrderbookCore>;
  direct(config: DirectConfig): MaybeShared<DirectCore>;
  leaseTable(): LeaseTable;
  rules(config: RulesConfig): MaybeShared<RulesCore & Partial<SharedRulesCore>>;
  /** Undefined if this engine has no shared tables. */
  readonly sharedFiles?: SharedFiles;
}
