// The public types of RuleLimiter. This file has no behaviour.

import type { Ban, LimiterOptions, LimiterTotals, Violator } from '../common/types.js';

/** A scope says what is counted: the connection, the address, its network, the account, the whole server. */
export interface Scope {
  /** `address`: the keys are IP addresses, and IPv6 counts by its network, as in `addressKey`. Default `text`. */
  readonly kind?: 'text' | 'address' | undefined;
  /**
   * The name of a scope of kind `address`, whose address this scope's key is derived from. This scope then has no key
   * of its own in checks.
   */
  readonly from?: string | undefined;
  /** The number of leading bits of an IPv4 address that form the key, 1 to 32. Default 32, or that of `from`. */
  readonly ipv4Subnet?: number | undefined;
  /** The number of leading bits of an IPv6 address that form the key, 1 to 128. Default 64, or that of `from`. */
  readonly ipv6Subnet?: number | undefined;
  /** One bucket for everybody: this scope has no key. Default false. */
  readonly single?: boolean | undefined;
}

/** The numbers of a rule: a rate and a burst, or a quota and a window. */
export interface RuleNumbers {
  /** Tokens per second, greater than 0. */
  readonly rateLimit?: number | undefined;
  /** The most tokens that a key can save up, at least 1. Default: 10 x rateLimit, at least 1; with a quota, the quota. */
  readonly burstLimit?: number | undefined;
  /** Tokens per window, at least 1, in place of `rateLimit`: the rate is `quota / windowSeconds`. */
  readonly quota?: number | undefined;
  /** The length of the window in seconds, greater than 0. */
  readonly windowSeconds?: number | undefined;
  /**
   * A share of the burst, from 0 to 1: an allowed check that leaves less of the burst carries a warning. Default 0: no
   * warnings.
   */
  readonly warnBelow?: number | undefined;
}

/** A rule is a token bucket for each key of a scope. */
export interface Rule extends RuleNumbers {
  /** The name of the scope. */
  readonly scope: string;
  /** The actions that the rule limits. Default: every check, whatever its action. */
  readonly action?: string | readonly string[] | undefined;
  /** The unit of its tokens, such as `bytes`. Default `requests`. */
  readonly unit?: string | undefined;
  /** Counts what the rule would refuse and charges itself, but refuses and bans nobody. Default false. */
  readonly dryRun?: boolean | undefined;
  /**
   * Whether a refusal by this rule counts towards a ban of its scope. Default true, but false for a rule that names the action
   * `delivery`: a guard sends these messages, and the peer only receives them.
   */
  readonly violation?: boolean | undefined;
}

/**
 * How violations lead to bans. Each violation adds 1 to the key's level, which drains at `violations / withinSeconds`
 * per second. A ban begins when the level reaches `violations`: with so many at once, or with more than so many per
 * `withinSeconds` for long.
 */
export interface BanPolicy {
  /** The level that begins a ban, at least 1. */
  readonly violations: number;
  /** In seconds, greater than 0. */
  readonly withinSeconds: number;
  /**
   * The length of a ban in seconds, greater than 0, Infinity for ever; or the lengths of the first, second ... ban of a
   * key, of which the last one repeats.
   */
  readonly seconds: number | readonly number[];
  /** Each length is multiplied by a random number from 1 - jitter to 1 + jitter: at least 0, below 1. Default 0. */
  readonly jitter?: number | undefined;
  /**
   * One step of the ladder of `seconds` is forgotten for every `forgetAfterSeconds` since the end of the last ban.
   * Greater than 0. Default: never, as long as the key is stored.
   */
  readonly forgetAfterSeconds?: number | undefined;
}

/** Keys by scope. A scope without a key is not asked. */
export type Keys = Readonly<Record<string, string | undefined>>;

/**
 * A number of `requests`, or costs by unit: finite numbers of at least 0. A unit that is not named costs 0, `requests`
 * costs 1.
 */
export type Cost = number | Readonly<Record<string, number>>;

/**
 * What a message is to a RuleLimiter in a guard. A field that is absent is as for an unclassified message. Other fields, and
 * an unknown unit, scope or plan, are errors: the connection is closed.
 */
export interface Classification {
  /** Default `message`. An action that no rule names is limited only by the rules without `action`. */
  readonly action?: string | undefined;
  /** Default 1 request. The cost in `bytes` is that of the message, unless the unit is named here. */
  readonly cost?: Cost | undefined;
  /** Keys for this message only: of more scopes than those of the connection, or in place of them. */
  readonly keys?: Keys | undefined;
  /** The plan for this message only. Default: that of the connection's peer. */
  readonly plan?: string | undefined;
  /** Passed to the listeners of the message, so that they need not parse it again. */
  readonly value?: unknown;
}

/** The result of a check. It is frozen. */
export interface RuleVerdict {
  /**
   * `allow`: within all limits. `delay`: try again after the delay. `banned`: a key is banned. `denied`: a key is on a
   * deny list.
   */
  readonly outcome: 'allow' | 'delay' | 'banned' | 'denied';
  /**
   * 0 if allowed; the seconds until every refusing rule would allow; the rest of the ban. Infinity: the cost exceeds a
   * burst, the ban is for ever, or the key is denied.
   */
  readonly delaySeconds: number;
  /** The refusing rule with the longest wait; the rule that began a ban with this check; else null. */
  readonly rule: string | null;
  /** The scope of that rule, of the ban or of the deny list, or the scope without room for a new key; else null. */
  readonly scope: string | null;
  /** Allowed, but this rule has less left than its `warnBelow`: the one with the smallest share; else null. */
  readonly warning: string | null;
}

/** The state of a rule for the keys of a `peek`. */
export interface RuleState {
  readonly rule: string;
  readonly scope: string;
  readonly unit: string;
  /** The burst. */
  readonly limit: number;
  /** The tokens left, below 0 after a `charge` beyond the burst. */
  readonly remaining: number;
  /** Seconds until the bucket is full if nothing is taken. */
  readonly resetSeconds: number;
}

/** The result of `RuleLimiter.peek`. */
export interface RulePeek {
  /** The result of a check at this moment. */
  readonly verdict: RuleVerdict;
  /** The rules that apply, in the order of their declaration. */
  readonly rules: readonly RuleState[];
}

/** A ban as it begins, with its scope and the rule that led to it. */
export interface RuleBan extends Ban {
  readonly scope: string;
  /** The refusing rule with the longest wait. */
  readonly rule: string;
}

/** The parts of the options that `RuleLimiter.update` replaces. */
export interface RuleSections {
  /** The rules by name: at most 13 for each scope, and at most 8 units. */
  readonly rules?: Readonly<Record<string, Rule>> | undefined;
  /** Other numbers for some rules, by plan and rule; null: the rule does not apply. At most 255 plans. */
  readonly plans?:
    | Readonly<Record<string, Readonly<Record<string, RuleNumbers | null>>>>
    | undefined;
  /** How violations lead to bans, by scope. Default: no bans but those by hand. */
  readonly bans?: Readonly<Record<string, BanPolicy>> | undefined;
  /**
   * Keys that are always allowed, by scope: nothing is charged and no ban holds. In address scopes addresses and networks
   * (`10.0.0.0/8`); these match the address as it is given, not the network that is its key.
   */
  readonly allow?: Readonly<Record<string, readonly string[]>> | undefined;
  /** Keys that are always denied, unless an allow list has one of the keys of the check. As `allow`. */
  readonly deny?: Readonly<Record<string, readonly string[]>> | undefined;
}

/** The options of a `RuleLimiter`. `maxPeers` is for each scope. */
export interface RuleLimiterOptions extends RuleSections, Omit<LimiterOptions, 'onBan'> {
  /** The scopes by name: at least one, at most 8. */
  readonly scopes: Readonly<Record<string, Scope>>;
  readonly rules: Readonly<Record<string, Rule>>;
  /**
   * Called once for each ban that a check begins, in the order of the scopes, after the decision. Not called for bans by
   * hand. An error that it throws becomes an uncaught exception and does not reach the caller.
   */
  readonly onBan?: ((ban: RuleBan) => void) | undefined;
  /** Returns a random number from 0 to below 1 for the jitter of bans; called once per ban, ahead. Default Math.random. */
  readonly random?: (() => number) | undefined;
}

/** Counts of one rule since it was added. */
export interface RuleCounts {
  /** The name of the rule's scope. */
  readonly scope: string;
  /** Checks that asked the rule. */
  readonly checked: number;
  /** Of these, the checks that it refused. */
  readonly refused: number;
  /** The checks that it would have refused, on dry run. */
  readonly dryRunRefused: number;
}

/** Statistics of one scope. */
export interface RuleScopeStats {
  /** The number of stored keys, at most `maxPeers`. */
  readonly peers: number;
  /** The violations of all keys, at most 2^53 - 1. */
  readonly totalViolations: number;
  /** At most ten keys, most violations first. */
  readonly violators: Violator[];
  /** The number of bans in force. */
  readonly bans: number;
  /** Bans that checks began. */
  readonly bansBegun: number;
  /**
   * What the rules of the scope have answered, rules that an update has removed included: a check counts once for each
   * rule that it asked, and a check during a ban asks none. `allow`: the rule allowed it, or is on dry run. `disconnect`:
   * a ban began, `bansBegun`. `delay`: the other refusals.
   */
  readonly verdicts: Readonly<LimiterTotals['verdicts']>;
  /** Keys that were removed for a new one because there were `maxPeers`. */
  readonly evictions: number;
  /** Evictions that lost something: used tokens or violations. */
  readonly lossyEvictions: number;
  /** Checks that found no room for a new key. */
  readonly refusedNewcomers: number;
  /** Offenders with a key too long to be stored: punished like others, but listed nowhere. */
  readonly unnamedOffenders: number;
  /** Bytes of the tables; absent with the TypeScript engine. */
  readonly memoryBytes?: number;
}

/** The result of `RuleLimiter.getStats`. */
export interface RuleStats {
  /** The outcomes of all checks so far. */
  readonly outcomes: Readonly<Record<RuleVerdict['outcome'], number>>;
  /** By rule. */
  readonly rules: Readonly<Record<string, RuleCounts>>;
  /** By scope, without single scopes. */
  readonly scopes: Readonly<Record<string, RuleScopeStats>>;
}

/** Used tokens by rule, of rules that are not full again within ten seconds. */
export type UsedTokens = Record<string, number>;

/** A key with violations or a ban in a snapshot. All times are in seconds. */
export interface RuleSnapshotPeer {
  key: string;
  violations: number;
  /** What leads to the next ban, see `BanPolicy`. */
  level: number;
  /** The step of the ladder of ban lengths. */
  banLevel: number;
  /** null: no ban is in force. */
  banSecondsLeft: number | 'forever' | null;
  /** Since the last ban ended; null if there was none, or if one is in force. */
  secondsSinceBan: number | null;
  /** Since the last check. */
  idleSeconds: number;
  used: UsedTokens;
}

/** Another key, under 32 hexadecimal digits that stand for it. */
export type RuleSnapshotDigest = [digest: string, idleSeconds: number, used: UsedTokens];

/** The keys of one scope, or the state of a single scope. */
export interface RuleScopeSnapshot {
  scope: string;
  peers: RuleSnapshotPeer[];
  /** Keep the secrets private: with one an attacker can choose keys that collide. */
  digests: { secret: string; peers: RuleSnapshotDigest[] }[];
  /** The state of a single scope, which has no keys. */
  single?: { idleSeconds: number; used: UsedTokens };
}

/** A part of a snapshot; it can be restored by itself. */
export interface RuleSlice extends RuleScopeSnapshot {
  format: 2;
  limiter: 'RuleLimiter';
}

/** The state of a RuleLimiter as plain values that JSON preserves. All times are relative. */
export interface RuleSnapshot {
  format: 2;
  limiter: 'RuleLimiter';
  scopes: RuleScopeSnapshot[];
}
