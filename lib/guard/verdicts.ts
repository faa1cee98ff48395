// The decisions of a guard, as `onVerdict` receives them, and the reasons for them.

import { type CheckResult, RateLimitAction } from '../common/types.js';

/** Why a connection was refused. */
export type ConnectionReason =
  /** The address is banned. */
  | 'ban'
  /** The address has `maxPerAddress` open connections already. */
  | 'concurrency'
  /** The limiter of `connections` refused the connection. */
  | 'rate'
  /** A key, a limiter or `trustedProxies` threw; `onError` received the error. */
  | 'error';

/** Why a message did not pass, or not at once. */
export type MessageReason =
  /** A limit was reached. */
  | 'rate'
  /** A limiter returned DISCONNECT: a ban, or too many violations. */
  | 'disconnect'
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
  /** The server's own code called `expel`. */
  | 'expelled'
  /** A cost or a limiter threw; `onError` received the error. */
  | 'error';

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
   * Seconds until the message or the connection would be allowed, or until the ban ends. 0 if the
   * limiter was not called, because other connections already wait for the same bucket.
   */
  readonly delaySeconds: number;
  /** Why it did not pass; undefined if it passed. */
  readonly reason: ConnectionReason | MessageReason | undefined;
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
  'did' | 'action' | 'delaySeconds' | 'reason'
>;

export const PASSED: Decision = {
  did: 'passed',
  action: RateLimitAction.ALLOW,
  delaySeconds: 0,
  reason: undefined,
};

/** The decision on a connection if the function for its key threw. */
export const KEY_FAILED: Decision = {
  did: 'closed',
  action: RateLimitAction.DELAY,
  delaySeconds: 0,
  reason: 'error',
};

/** The fields of a verdict that come from a limiter's result. */
export function resultFields([action, delaySeconds]: CheckResult) {
  return { action, delaySeconds };
}
