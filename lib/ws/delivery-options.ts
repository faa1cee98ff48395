// The options of deliveries: how much may wait for a peer that reads slowly, and how much it may get.

import { invalidValue } from '../common/errors.js';
import { positive, readOptions } from '../common/options.js';
import type { AsyncLimiter } from '../limiters/async-limiter.js';
import { type AnyLimiter, isRuleLimiter, requireLimiter } from '../limiters/verdict.js';
import type { AsyncRuleLimiter } from '../rules/any-rules.js';
import type { RuleLimiter } from '../rules/rule-limiter.js';

/** The option `delivery` of `guardWebSocketServer`: limits on what `send` of the guard and of its groups sends. */
export interface DeliveryOptions {
  /**
   * The number of bytes that may wait for one connection: in ws, also for compression, and in Node's socket. Each
   * waiting message counts 512 bytes more, for the memory that it takes besides its data. A connection for which so many
   * bytes wait is slow until it has read some of them. The message that reaches the number is still sent, so at most one
   * message more than this number waits. A finite number greater than 0. Default 1 MiB (1,048,576).
   */
  maxBufferedBytes?: number | undefined;
  /**
   * What happens to a message for a slow connection. `'drop'` (the default) discards it; the connection gets messages
   * again when it has read enough. `'close'` closes the connection with code 1013, and terminates it after
   * `closeGraceSeconds`: a peer that does not read never gets the close frame, since it is behind what waits.
   */
  onSlow?: 'drop' | 'close' | undefined;
  /**
   * How much one connection may get. A message that the limiter refuses is dropped, also if it answers DISCONNECT: the
   * rate is the sender's doing, not the peer's. Each connection has a bucket of its own, removed when it closes.
   * Default: no limit.
   *
   * While a SharedRateLimiter waits for its store, the message and those behind it wait in order, and count for
   * `maxBufferedBytes`.
   *
   * The RuleLimiter of the option `limiter` of the guard checks a message with the keys and the plan of its receiver, 1
   * request and the length in bytes. Only rules that name the action `delivery` apply.
   */
  limiter?: AnyLimiter | AsyncLimiter | RuleLimiter | AsyncRuleLimiter | undefined;
  /** The tokens that a message takes: 1 by default, or with `'bytes'` its length, at least 1. Not for a RuleLimiter. */
  cost?: 'bytes' | undefined;
}

/** Validated options. @internal */
export interface DeliverySettings {
  readonly maxBufferedBytes: number;
  readonly onSlow: 'drop' | 'close';
  readonly limiter: AnyLimiter | AsyncLimiter | undefined;
  /** Whether the RuleLimiter of the guard checks deliveries. */
  readonly usesRules: boolean;
  readonly countsBytes: boolean;
}

const MEBIBYTE = 2 ** 20;

/** `rules` is the option `limiter` of the guard. @throws `ERR_LIMITER_OPTION` @internal */
export function readDelivery(delivery: unknown, rules: unknown): DeliverySettings {
  const names = ['maxBufferedBytes', 'onSlow', 'limiter', 'cost'];
  const given = readOptions('delivery', delivery, names);
  const { onSlow = 'drop', limiter, cost } = given;
  if (onSlow !== 'drop' && onSlow !== 'close') {
    throw invalidValue('ERR_LIMITER_OPTION', 'onSlow', onSlow, "'drop' or 'close'");
  }
  const usesRules = isRuleLimiter(limiter);
  if (cost !== undefined && (cost !== 'bytes' || usesRules)) {
    const accepted = usesRules
      ? 'absent for a RuleLimiter (a rule has a unit)'
      : "absent or 'bytes'";
    throw invalidValue('ERR_LIMITER_OPTION', 'the cost of delivery', cost, accepted);
  }
  const maxBufferedBytes = positive(given, 'maxBufferedBytes', MEBIBYTE);
  const common = { maxBufferedBytes, onSlow, usesRules, countsBytes: cost === 'bytes' } as const;
  if (usesRules) {
    if (limiter === rules) return { ...common, limiter: undefined };
    const accepted = 'the RuleLimiter of the option limiter, or a limiter of another class';
    throw invalidValue('ERR_LIMITER_OPTION', 'the limiter of delivery', limiter, accepted);
  }
  if (limiter !== undefined) requireLimiter(limiter, 'the limiter of delivery');
  return { ...common, limiter };
}
