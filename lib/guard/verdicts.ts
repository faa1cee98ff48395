// What a guard tells of its decisions.

import { type CheckResult, RateLimitAction } from '../common/types.js';
import type { ConnectionReason } from './door.js';
import type { Did, MessageReason } from './gate.js';

/** One decision on a connection or a message, and what was done. */
export interface GuardVerdict<Kind extends string, Socket, Data> {
  readonly kind: 'connection' | Kind;
  /**
   * `passed`; `refused`: not let in; `dropped`; `paused`: the message waits, and is told of again as it
   * passes; `closed`: the connection, for this message, or for a key that threw.
   */
  readonly did: 'passed' | 'refused' | Did;
  /** What the limiter said. */
  readonly action: RateLimitAction;
  /**
   * Seconds until it would be allowed, or for which a ban lasts, at most; 0 where the limiter was not asked,
   * since others wait for the same bucket.
   */
  readonly delaySeconds: number;
  /** Why it did not pass; undefined where it did. */
  readonly reason: ConnectionReason | MessageReason | undefined;
  /** The key that was refused; the connection's where none was. */
  readonly key: string;
  /** Of the client; undefined where there is none, as of a Unix socket. */
  readonly address: string | undefined;
  /** Undefined where there is no connection yet. */
  readonly socket: Socket | undefined;
  /** The message; undefined for a connection. */
  readonly data: Data | undefined;
}

/** Of which these fields are the decision itself. */
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

/** Of a connection whose key threw. */
export const FAILED: Decision = {
  did: 'closed',
  action: RateLimitAction.DELAY,
  delaySeconds: 0,
  reason: 'error',
};

/** The fields that a limiter's answer fills. */
export function said([action, delaySeconds]: CheckResult) {
  return { action, delaySeconds };
}
