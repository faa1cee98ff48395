// The decisions of a guard, as `onVerdict` receives them, and the reasons for them.

import { type CheckResult, RateLimitAction } from '../common/types.js';
import type { RuleVerdict } from '../rules/types.js';
import { ACTIONS } from '../rules/verdicts.js';

/** Why a connection was refused. */
export type ConnectionReason =
  /** The address is banned, or another key of a RuleLimiter. */
  | 'ban'
  /** A key is on a deny list of the RuleLimiter. */
  | 'denied'
  /** The address, its network or the server has as many open connections as `connections` allows. */
  | 'concurrency'
  /** The RuleLimiter or the limiter of `connections` refused the connection. */
  | 'rate'
  /** A key, a limiter or `trustedProxies` threw; `onError` received the error. */
  | 'error';

/** Why a message did not pass, or not at once. */
export type MessageReason =
  /** A limit was reached. */
  | 'rate'
  /** A limiter returned DISCONNECT: a ban, or too many violations. */
  | 'disconnect'
  /** A key is on a deny list of the RuleLimiter, which an update has added, or a key that came after the connection. */
  | 'denied'
  /** The cost is above the burst, so the message could never pass. */
  | 'cost'
  /** The message would have to wait for longer than `maxPauseSeconds`. */
  | 'pause'
  /**
   * Too many messages wait already, or the messages before this one used up `maxPauseSeconds`. This happens to messages
   * that came in one piece.
   */
  | 'backlog'
  /** A line or a WebSocket message is longer than the allowed length. */
  | 'length'
  /** A line took longer than `lineSeconds`. */
  | 'unfinished'
  /** So much waits for the peer, which does not read fast enough, that no message can be sent to it. */
  | 'slow'
  /** The server's own code called `expel`. */
  | 'expelled'
  /** A cost, `classify` or a limiter threw; `onError` received the error. */
  | 'error';

/**
 * Whether a connection that was closed for this reason counts as an offence of its peer. A message that cannot wait for so long
 * is no misuse, nor is a slow connection, a failed cost or a list.
 */
export function isOffence(reason: MessageReason): boolean {
  return !NO_OFFENCES.includes(reason);
}

const NO_OFFENCES: readonly MessageReason[] = ['pause', 'backlog', 'slow', 'error', 'denied'];

/** What the guard did with a refused message. */
export type MessageOutcome = 'dropped' | 'paused' | 'closed';

/** One decision on a connection or a message, and what was done. */
export interface GuardVerdict<Kind extends string, Socket, Data> {
  readonly kind: 'connection' | Kind;
  /**
   * What the guard did:
   * - `passed`: the connection or the message was allowed;
   * - `refused`: the connection was refused before it was established;
   * - `dropped`: the message was discarded;
   * - `paused`: the message waits, and a `passed` verdict follows when it passes;
   * - `closed`: the connection was closed, because of this message or because a key threw.
   */
  readonly did: 'passed' | 'refused' | MessageOutcome;
  /** The limiter's action. */
  readonly action: RateLimitAction;
  /**
   * Seconds until the message or the connection would be allowed, or until the ban ends. 0 if they are unknown: other
   * connections already wait for the same bucket, the peer is slow, or the message was sent to a group.
   */
  readonly delaySeconds: number;
  /** Why it did not pass; undefined if it passed. */
  readonly reason: ConnectionReason | MessageReason | undefined;
  /** The rule of the RuleLimiter that refused it, see `RuleVerdict`; null if none did. */
  readonly rule: string | null;
  /** The scope of that rule, of the ban or of the deny list; null if the RuleLimiter did not refuse it. */
  readonly scope: string | null;
  /** The RuleLimiter allowed it, but this rule has less left than its `warnBelow`; else null. */
  readonly warning: string | null;
  /** The key that was refused; the connection's key if no key was refused. */
  readonly key: string;
  /** The client's address; undefined if there is none, as for a Unix socket. */
  readonly address: string | undefined;
  /** Undefined if the connection is not established yet. */
  readonly socket: Socket | undefined;
  /** The message; undefined for a connection. */
  readonly data: Data | undefined;
}

/** The fields of a verdict that hold the decision itself. */
export type Decision = Pick<
  GuardVerdict<never, never, never>,
  'did' | 'action' | 'delaySeconds' | 'reason' | 'rule' | 'scope' | 'warning'
>;

/** The fields of a decision that come from a limiter. */
export type Answer = Pick<Decision, 'action' | 'delaySeconds' | 'rule' | 'scope' | 'warning'>;

/** Returns the fields that come from the result of a limiter without rules. */
export function answerOf([action, delaySeconds]: CheckResult): Answer {
  return { action, delaySeconds, rule: null, scope: null, warning: null };
}

/** Returns the fields that come from a RuleLimiter. */
export function ruleAnswer({ outcome, delaySeconds, rule, scope, warning }: RuleVerdict): Answer {
  return { action: ACTIONS[outcome], delaySeconds, rule, scope, warning };
}

/** Allowed. */
export const ALLOWED: Answer = answerOf([RateLimitAction.ALLOW, 0]);
/** The delay is unknown: other connections wait for the bucket, or the limiter did not answer. */
export const UNKNOWN_DELAY: Answer = answerOf([RateLimitAction.DELAY, 0]);
/** No limiter was called. */
export const WITHOUT_LIMITER: Answer = answerOf([RateLimitAction.DISCONNECT, 0]);

export const PASSED: Decision = { did: 'passed', reason: undefined, ...ALLOWED };

/** The decision on a connection if the function for its key threw. */
export const KEY_FAILED: Decision = { did: 'closed', reason: 'error', ...UNKNOWN_DELAY };
