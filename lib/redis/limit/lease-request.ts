// A request for a lease: the checks that wait for it, and the store's reply.

import type { CheckResult } from '../../common/types.js';
import { Pending } from '../store/deadlines.js';
import { isNumeric } from '../store/replies.js';

/** A check that waits for a lease. `onTimeout` decides it if the deadline passes first. */
export class PendingCheck extends Pending {
  readonly cost: number;
  readonly #resolve: (result: CheckResult) => void;
  readonly #onTimeout: (wasBlocked: boolean) => CheckResult;

  constructor(
    cost: number,
    resolve: (result: CheckResult) => void,
    onTimeout: (wasBlocked: boolean) => CheckResult,
  ) {
    super();
    this.cost = cost;
    this.#resolve = resolve;
    this.#onTimeout = onTimeout;
  }

  answer(result: CheckResult): void {
    if (this.end()) this.#resolve(result);
  }

  override expire(wasBlocked: boolean): void {
    this.#resolve(this.#onTimeout(wasBlocked));
  }
}

/** A request in flight. */
export interface LeaseRequest {
  /** The checks that wait. The request includes the costs of the first `includedChecks` of them. */
  checks: PendingCheck[];
  readonly includedChecks: number;
  /** The smallest useful grant; 0 if tokens are requested ahead of use. */
  readonly cost: number;
  /** Whether the peer was released after the request was sent. */
  isReleased: boolean;
  /** Called once the request and those that follow from it have ended. */
  onEnd: (() => void) | undefined;
}

export interface LeaseReply {
  readonly granted: number;
  /** Whether the rest of the previous lease is part of the new one. */
  readonly isCarried: boolean;
  /** Tokens left in the peer's bucket. */
  readonly tokens: number;
  /** Violations counted by the store. */
  readonly violations: number;
  /** Seconds that the lease lasts, from the time of the request. */
  readonly lifetime: number;
}

/** Reads the reply of the script `lease`; undefined if it is invalid. */
export function readLeaseReply(reply: unknown): LeaseReply | undefined {
  if (!(Array.isArray(reply) && reply.length === 5 && reply.every(isNumeric))) return undefined;
  const [granted, carried, tokens, violations, lifetime] = reply.map(Number) as [
    ...[number, number, number],
    ...[number, number],
  ];
  return { granted, isCarried: carried === 1, tokens, violations, lifetime };
}
