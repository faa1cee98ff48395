// The interface between RuleLimiter and an engine. These comments are the specification of both engines.
//
// The facade compiles scopes, rules, plans and actions into numbers (RulePlan), normalizes keys, and decides allow and
// deny lists. The engine stores records, and decides bans and rules. Scopes, units, plans and actions are indexes. A
// rule of a scope has a slot of that scope, from 0 to MAX_RULES - 1, which it keeps until it is removed.

import type { BansInForce, Violator } from '../common/types.js';
import type { OffenderLayout } from './columns.js';

export const MAX_SCOPES = 8;
/** The maximum number of rules per scope. */
export const MAX_RULES = 13;
export const MAX_UNITS = 8;
/** The maximum number of plans, without the base plan, which has index 0. */
export const MAX_PLANS = 255;

/** The maximum number of tokens that a rule counts as used. */
export const MAX_USED = 2 ** 53;

/** Flags of a rule in `RulePlan.flags`. */
export const DRY_RUN = 1;
export const COUNTS_VIOLATION = 2;

/** The results of a check. Undefined, the cheapest value to return, means allowed without a warning. */
export const RULE_WARNED = 1;
export const RULE_DELAYED = 2;
export const RULE_BANNED = 3;
/** Refused, because there is no room for a record: nothing has changed. */
export const RULE_NO_ROOM = 4;
/**
 * Only of a limiter in a shared file: nothing has been decided, because another process has updated the rules. Call
 * `readConfig` and `adoptPlan`, and check again.
 */
export const RULE_OUTDATED = 7;
export type RuleAnswer =
  | typeof RULE_OUTDATED
  | typeof RULE_WARNED
  | typeof RULE_DELAYED
  | typeof RULE_BANNED
  | typeof RULE_NO_ROOM;

/**
 * The arguments and the results of the next call, shared by all rule limiters: doubles at the indexes below. The caller
 * writes the arguments right before the call, and reads the results right after it.
 */
export const RULE_NUMBERS: Float64Array = new Float64Array(
  new ArrayBuffer(8 * (64 + MAX_SCOPES * MAX_RULES)),
);

/** Argument: the cost in each unit, MAX_UNITS numbers. Each is finite and at least 0. */
export const AT_COSTS = 0;
/** Argument: a random number from 0 to 1 (excluded) for each scope, MAX_SCOPES numbers, for the jitter of a ban. */
export const AT_RANDOM = 8;
/** Result of an answer other than allowed: the delay in seconds; 0 if allowed. */
export const AT_DELAY = 16;
/** Result: the refusing rule as `scope * MAX_RULES + slot`, or -1. */
export const AT_RULE = 17;
/** Result: the scope of the refusing rule, of the ban or without room; -1 if allowed. */
export const AT_SCOPE = 18;
/** Result of RULE_WARNED: the rule that warns, as `scope * MAX_RULES + slot`. */
export const AT_WARNING = 19;
/** Result of RULE_BANNED: bit i is set if this check has begun a ban in scope i. Only then the next are set for it. */
export const AT_BEGUN = 20;
/** Result: for each scope with a new ban its length in seconds, MAX_SCOPES numbers. */
export const AT_BAN_SECONDS = 24;
/** Result: for each scope with a new ban the violations of the peer, MAX_SCOPES numbers. */
export const AT_VIOLATIONS = 32;
/** Result: for each scope with a new ban the rule that began it, as a slot, MAX_SCOPES numbers. */
export const AT_BAN_RULE = 40;
/**
 * Result of `look` and of an allowed check: the used tokens at `scope * MAX_RULES + slot`, of the rules that apply and are
 * not on dry run. Those of a check include its cost.
 */
export const AT_USED = 64;

/**
 * The slots of an opened peer, SLOT_WORDS small integers for each scope, shared by all rule limiters. `open` writes
 * them; the caller keeps them, and writes them here before each call of `checkPeer`, which updates them.
 */
export const RULE_SLOTS: Int32Array = new Int32Array(new ArrayBuffer(4 * 8 * 3));
export const SLOT_WORDS = 3;

/** How violations lead to bans in a scope. */
export interface RuleBanConfig {
  /** Greater than 0. */
  readonly violations: number;
  /** In seconds, greater than 0. */
  readonly withinSeconds: number;
  /** The lengths of the first, second ... ban; the last one repeats. At least one; Infinity means for ever. */
  readonly seconds: readonly number[];
  /** From 0 to below 1. */
  readonly jitter: number;
  /** Infinity: never. */
  readonly forgetAfterSeconds: number;
}

/** Rules, plans, actions and bans as numbers. `update` replaces the whole. */
export interface RulePlan {
  /** The number of plans, with the base plan. */
  readonly plans: number;
  /** The number of actions. Action 0 stands for all actions that no rule names. */
  readonly actions: number;
  /**
   * For each plan, action and scope, at `(plan * actions + action) * scopes + scope`: bit i is set if the rule in slot i
   * applies.
   */
  readonly applies: Uint16Array;
  /**
   * For each plan, scope and slot, at `(plan * scopes + scope) * MAX_RULES + slot`: the rate in tokens per second, the
   * burst, and the share of the burst below which an allowed check carries a warning (0: never). A rule that does not
   * apply in a plan has the numbers of the base plan there; a slot without a rule has the rate 0.
   */
  readonly rates: Float64Array;
  readonly bursts: Float64Array;
  readonly warnBelow: Float64Array;
  /** For each scope and slot, at `scope * MAX_RULES + slot`: the unit, the flags, and the rank by declaration. */
  readonly units: Uint8Array;
  readonly flags: Uint8Array;
  readonly ranks: Uint8Array;
  /** For each scope the number of slots: the highest one with a rule, plus 1. It never decreases. */
  readonly slots: Uint8Array;
  /** For each scope: bit i is set if slot i has a rule that this update has put there. */
  readonly added: Uint16Array;
  /** For each plan: its index before this update; 0, the base plan, if it is new. */
  readonly origins: Uint16Array;
  /** For each scope: how it bans, or undefined. */
  readonly bans: readonly (RuleBanConfig | undefined)[];
}

export interface RulesConfig {
  /** The maximum number of records of each scope. */
  readonly maxPeers: number;
  /** For each scope: whether one state serves all peers. Such a scope has no key, no bans and no records. */
  readonly single: readonly boolean[];
  readonly plan: RulePlan;
  /** If processes share the state in a file. Only the native engine has this; see SharedRulesCore. */
  readonly shared?: SharedRulesConfig | undefined;
}

export interface SharedRulesConfig {
  /** The absolute path of the file. */
  readonly path: string;
  /** The scopes as text: all limiters of a file must have the same. */
  readonly scopes: string;
  /** The rules as text, from which the facade can make the plan. The limiter that creates the file writes it there. */
  readonly text: string;
  /**
   * Called if a call finds that another process has updated the rules: adopts these. `attempt` counts from 0 how often the
   * same call has done that; it throws `ERR_LIMITER_SHARED` after many.
   */
  readonly adopt: (attempt: number) => void;
}

/** The keys of a call by scope. Undefined for a single scope, and for a scope that is not in `mask`. */
export type RuleKeys = readonly (string | undefined)[];

/** Totals since the limiter was created. */
export interface RuleTotals {
  allowed: number;
  delayed: number;
  banned: number;
  /** For each scope and slot, at `scope * MAX_RULES + slot`: how often a check asked the rule. */
  checked: Float64Array;
  refused: Float64Array;
  dryRunRefused: Float64Array;
  /** For each scope: the sums of `checked` and `refused` of rules whose slots have other rules now. */
  replacedChecked: Float64Array;
  replacedRefused: Float64Array;
  /** Only in a shared file: the checks that lists have decided. */
  listedAllowed?: number;
  listedDenied?: number;
}

export interface RuleScopeStatistics {
  /** The number of records. */
  peers: number;
  totalViolations: number;
  unnamedOffenders: number;
  topViolators: Violator[];
  bansBegun: number;
  evictions: number;
  lossyEvictions: number;
  refusedNewcomers: number;
  /** Bytes of the tables of this scope; absent if the engine does not know them. */
  memoryBytes?: number;
}

/** Offenders of one scope by key, in columns. */
export interface RuleOffenderColumns {
  readonly keys: readonly string[];
  /**
   * RULE_OFFENDER_NUMBERS for each: violations; the level that leads to bans, as of now; the ban level; the remaining
   * seconds of its ban (Infinity: for ever), or NaN without one in force; the seconds since its last ban ended, or NaN;
   * its idle seconds; and for each of MAX_RULES slots the used tokens as of its last refill, or NaN if they are not saved.
   */
  readonly numbers: Float64Array;
}

export const RULE_OFFENDER_NUMBERS: number = 6 + MAX_RULES;
export const RULE_OFFENDER_LAYOUT: OffenderLayout = {
  width: RULE_OFFENDER_NUMBERS,
  ban: 3,
  idle: 5,
};

/** Other peers of one scope, under digests that were made with one secret. */
export interface RuleDigestColumns {
  /** Four words, low ones first. */
  readonly secret: Uint32Array;
  /** Four words for each peer, low ones first. */
  readonly digests: Uint32Array;
  /** RULE_DIGEST_NUMBERS for each: its idle seconds, and the used tokens as for offenders. */
  readonly numbers: Float64Array;
}

export const RULE_DIGEST_NUMBERS: number = 1 + MAX_RULES;

export interface RuleSnapshotStep {
  readonly offenders: RuleOffenderColumns;
  readonly digests: RuleDigestColumns;
}

/**
 * The engine's part of a RuleLimiter.
 *
 * A record of a scope has the instant of its last refill and for each slot the used tokens. A peer without a record is
 * fresh: it has used nothing. A record exists if something in it is not zero: used tokens, violations, or a ban. A
 * single scope has one such state in place of records.
 *
 * Time. `now` is monotonic seconds, by default the engine's own clock, read once. In a record time only moves forward:
 * a refill at an instant before the last one refills nothing and does not change the instant.
 *
 * Refill. For each slot, used = used - seconds * rate, at least 0, at the rates of the plan that asks (see RulePlan).
 * If an update came between the last refill and now, the time before it counts at the rates before it, of the plan that
 * the asking plan was then (`origins`). The engine remembers the last RATE_CHANGES updates that changed a rate; for
 * the time before these it takes the oldest rates that it remembers.
 *
 * Added rules. The counters of a slot in `added` begin at 0. A slot that had another rule before begins with 0 used
 * tokens, also in records that were last refilled before the update, whenever they are touched or read next. To tell these
 * from records that were refilled after the update at the same instant, such an update counts at the latest time of all
 * calls, and the time of later calls is at least the next double after it. (A slot that never had a rule is 0 in all records.)
 *
 * Check. `mask` has a bit for each scope to ask; the bits of single scopes are always set. `program` is
 * `plan * actions + action`. A check goes through these steps:
 *
 * 1. If a ban is in force in a scope of `mask`: RULE_BANNED, with the longest remaining time (ties: the first scope),
 *    AT_RULE -1 and AT_BEGUN 0. Counts `banned`. Nothing else changes.
 * 2. Each record of a scope of `mask` with at least one applying rule is refilled. Each applying rule is asked, and its
 *    `checked` is counted. It allows if used + cost <= burst, where the cost is that of its unit.
 * 3. A dry-run rule that allows takes its cost, whatever the other rules say; one that refuses counts `dryRunRefused`.
 *    It affects nothing else.
 * 4. If all other applying rules allow: all of them take their costs (used = min(used + cost, MAX_USED)). If a rule with
 *    a warning has less than this share left after that, (burst - used) / burst < share, the answer is RULE_WARNED with
 *    the rule that has the smallest share left (ties: the lowest rank), dry-run rules excluded. Counts `allowed`.
 * 5. If a rule refuses, no rule but dry-run rules takes anything. Each refusing rule counts `refused`. The delay is the
 *    longest of the refusing rules: Infinity if the cost exceeds the burst, else d = (used + cost - burst) / rate,
 *    rounded up to a multiple of 2^-20 plus 2^-20: (ceil(d * 2^20) + 1) / 2^20, or d if d * 2^20 is not finite. AT_RULE
 *    is the rule with the longest delay (ties: the lowest rank). RULE_DELAYED, counts `delayed`, unless a ban begins.
 * 6. A refusing rule with COUNTS_VIOLATION and a cost above 0 makes the check a violation of its scope, once per scope
 *    and not in single scopes. The violations of the peer grow by 1, at most to 2^53 - 1. In a scope with bans its level drains
 *    by violations / withinSeconds per second since its last change, at least to 0, and grows by 1; at `violations` or
 *    more a ban begins and the level is 0. Its ban level n, less one for each whole forgetAfterSeconds since its last ban
 *    ended, at least 0, selects seconds[min(n, last)]; the ban level becomes n + 1. The length of the ban is
 *    seconds * (1 + jitter * (2 * random - 1)), with the random number of the scope. Then the answer is RULE_BANNED with
 *    the longest new ban as delay (ties: the first scope), its scope, and as AT_RULE the violating rule of that scope
 *    with the longest delay (ties: the lowest rank). AT_BEGUN, AT_BAN_SECONDS, AT_VIOLATIONS and AT_BAN_RULE describe
 *    all new ones. Counts `banned`, not `delayed`.
 *
 * Room. A scope has at most `maxPeers` records. If an allowed check needs a new record in a full scope, it evicts one as
 * the other limiters do (BoundedConfig), reckoning with the rates of the base plan: a peer without violations is fresh
 * when nothing is used; a peer with a ban in force is never evicted. Candidates of all scopes are chosen before any is
 * evicted. If a scope has none: RULE_NO_ROOM with a delay of 1 second, AT_RULE -1 and AT_SCOPE the first such scope;
 * counts `delayed` and `refusedNewcomers` of that scope, and nothing else changes (`checked` is counted, dry-run rules
 * take nothing). If a scope without room needs a record for dry-run rules only, or for a violation or a dry-run rule of a
 * refused check, nothing is stored in that scope and its `refusedNewcomers` is counted; the answer stays. New records are
 * inserted in all scopes before any is evicted and before anything is charged. If there is no memory,
 * `ERR_LIMITER_MEMORY`, and nothing has changed but refills and counts.
 *
 * All methods that take `now` throw nothing else. Keys are strings of any content.
 */
export interface RulesCore {
  /** Replaces rules, plans, actions and bans. Bans in force keep their ends. Visits no record. */
  update(plan: RulePlan, now?: number): void;

  check(keys: RuleKeys, mask: number, program: number, now?: number): RuleAnswer | undefined;
  /** Writes RULE_SLOTS for these keys, for `checkPeer`. Changes nothing. */
  open(keys: RuleKeys, mask: number): void;
  /** The check of a peer with its slots in RULE_SLOTS. Any content of the slots of these keys leads to the right result. */
  checkPeer(keys: RuleKeys, mask: number, program: number, now?: number): RuleAnswer | undefined;
  /**
   * Changes with `adopt`: slots that `open` has written before are then out of date, and `open` must be called again.
   */
  readonly secretVersion: number;

  /**
   * The answer and the results of a check at this moment, without changing or counting anything. RULE_BANNED only for a
   * ban in force: a violation that would begin a ban is RULE_DELAYED. Never RULE_NO_ROOM. Returns the used tokens of
   * all slots, refilled, at `scope * MAX_RULES + slot`.
   */
  peek(
    keys: RuleKeys,
    mask: number,
    program: number,
    now?: number,
  ): { answer: RuleAnswer | undefined; used: Float64Array };
  /** As `peek`, for each request of a server: the used tokens of the rules that apply are at AT_USED. */
  look(keys: RuleKeys, mask: number, program: number, now?: number): RuleAnswer | undefined;
  /**
   * Refills the records, then gives costs back to the applying rules that are not on dry run: used = max(0, used - cost).
   * Creates no record.
   */
  refund(keys: RuleKeys, mask: number, program: number, now?: number): void;
  /**
   * Refills the records, then takes costs from the applying rules that are not on dry run, without asking them. Creates
   * records, and evicts as an allowed check does; a scope without room stores nothing. Bans do not matter.
   */
  charge(keys: RuleKeys, mask: number, program: number, now?: number): void;

  /**
   * Bans a peer for `seconds` (greater than 0; Infinity: for ever), or prolongs its ban if that would end sooner.
   * Changes no violations, and no levels but for what is forgotten of the ban level by then. False if there is no room for
   * a record.
   */
  ban(scope: number, key: string, seconds: number, now?: number): boolean;
  /** Ends a ban in force and returns true; false if there is none. Keeps violations and levels. */
  unban(scope: number, key: string, now?: number): boolean;
  /** The remaining seconds of a ban; 0 without one. */
  banSecondsLeft(scope: number, key: string, now?: number): number;
  /** As `BanningCore.longestBans`, but bans with equal ends are in the order of their keys by code units. */
  longestBans(scope: number, most: number, now?: number): BansInForce;
  violations(scope: number, key: string): number;
  /** Removes the record, violations, levels and ban of a peer; an unknown key is no error. */
  removePeer(scope: number, key: string): void;

  /**
   * Removes the records that have been idle for more than `maxIdle` seconds, are fresh at the rates of the base plan, and
   * whose peers have no ban in force, no level left, and no ban level left to forget (a ban level without
   * forgetAfterSeconds does not count); their violations go with them. Visits all scopes, and the pending records of
   * restored digests. `budgetMs` as in LimiterCore. Returns the number of removed records, without pending ones.
   */
  cleanup(maxIdle: number, budgetMs: number, now?: number): number;
  isCleaning(): boolean;

  totals(): RuleTotals;
  statistics(scope: number): RuleScopeStatistics;

  /** As LimiterCore.snapshot, for one scope that is not single. */
  snapshot(scope: number, most: number, now: () => number | undefined): Iterable<RuleSnapshotStep>;
  /**
   * Restores offenders in the given order and returns their number. A new peer gets the record as it was saved, last
   * refilled `idle` seconds ago; if that is before an update with added rules, the record is refilled up to the time of
   * that update first. A known peer keeps the higher number of violations, of each level and of each slot's used tokens,
   * after both records are refilled to now, and the ban that ends later. All refills are at the rates of the base plan. A
   * new peer evicts only peers with a lower eviction cost, as in LimiterCore.
   */
  restore(scope: number, offenders: RuleOffenderColumns, now?: number): number;
  /** As LimiterCore.adopt. */
  adopt(secret: Uint32Array): void;
  /** As LimiterCore.restoreDigests. */
  restoreDigests(scope: number, digests: RuleDigestColumns, now?: number): number;
  /** The state of a single scope, as RULE_DIGEST_NUMBERS of a peer. */
  saveSingle(scope: number, now?: number): Float64Array;
  /** Restores it: keeps the higher used tokens of each slot, as `restore` does of a known peer. */
  restoreSingle(scope: number, numbers: Float64Array, now?: number): void;
  /** Removes all records, violations and bans, and resets single scopes. */
  clear(): void;
}

/**
 * A RulesCore whose state lies in a file that all processes and threads of a machine share, as SharedCore describes. All
 * limiters of a file decide by the same rules, those in the file. The limiter that creates it writes its own; one that joins
 * must adopt them before any other call.
 *
 * - A check finds out under its lock that the rules have changed: RULE_OUTDATED. `peek`, `look`, `refund`, `charge`,
 *   `restore`, `restoreDigests` and `restoreSingle`, whose arguments or results are by slots, then do nothing or stop, and
 *   `takeOutdated` returns true; their results say nothing. Repeat the call with the new rules. Other methods call `adopt`
 *   of the config and go on. What `totals`, `snapshot` and `saveSingle` return is by the slots of the last rules adopted.
 * - A record has room for at least one rule more than the scope had when the file was created, up to MAX_RULES.
 * - A check whose part of the table is stalled is RULE_NO_ROOM with a delay of STALLED_SECONDS. All other calls throw.
 * - `update` is `publish`. The file has what an engine remembers of earlier rates, also for limiters that join later.
 * - Random order: positions of first violations and bans of all scopes are numbered together.
 */
export interface SharedRulesCore {
  /**
   * Copies the rules of the file. `isFounding`: whether `text` is that of the limiter that created the file. `rooms`: for
   * each scope the number of rules that a record has room for.
   * @throws `ERR_LIMITER_SHARED` if they are damaged
   */
  readConfig(text: string): SharedRulesText;
  /** Decides by the plan made from the last readConfig(). False if it does not belong to the file. */
  adoptPlan(plan: RulePlan): boolean;
  /** Whether this limiter has the rules of the file. */
  isCurrent(): boolean;
  /** Whether a call since the last one has done nothing because the rules have changed. */
  takeOutdated(): boolean;
  /**
   * Replaces the rules of all limiters of the file. False if they have been replaced already by others than this limiter
   * has; then nothing has changed. @throws `ERR_LIMITER_MEMORY`
   */
  publish(plan: RulePlan, text: string, now?: number): boolean;
  /** Counts a check that a list has decided. False, and nothing is counted, if another process has updated the rules. */
  countListed(isAllowed: boolean): boolean;
}

export interface SharedRulesText {
  readonly text: string;
  readonly isFounding: boolean;
  readonly rooms: readonly number[];
}

/** The most bytes of the text of the rules in a shared file. */
export const MOST_RULE_TEXT: number = 2 ** 20;

/** The number of updates with changed rates that an engine remembers. */
export const RATE_CHANGES = 8;
