// Publishes bans on a channel of `node:diagnostics_channel`, for logs and monitors that have no access to the option
// `onBan`. Browsers have no such module: there nothing is published.

import type { Ban } from '../common/types.js';

/**
 * BAN_CHANNEL is the name of the `node:diagnostics_channel` channel on which each ban is published once, as it begins.
 * The message is a `BanMessage`; that of a `RuleLimiter` has the scope of the key and the rule that refused.
 * @example
 * import { subscribe } from 'node:diagnostics_channel';
 * import { BAN_CHANNEL, type BanMessage, RuleLimiter } from 'relay-limiter';
 *
 * subscribe(BAN_CHANNEL, (message) => {
 *   const { scope, rule, key, banDuration } = message as BanMessage;
 *   console.log(scope, rule, key, banDuration);
 * });
 * const limits = new RuleLimiter({
 *   scopes: { account: {} },
 *   rules: { logins: { scope: 'account', quota: 1, windowSeconds: 900 } },
 *   bans: { account: { violations: 1, withinSeconds: 60, seconds: 600 } },
 * });
 * limits.check('mallory');
 * limits.check('mallory'); // account logins mallory 600
 */
export const BAN_CHANNEL = 'relay-limiter:ban';

/** The message that is published on `BAN_CHANNEL`. */
export interface BanMessage extends Ban {
  /** The limiter that bans the peer; compare it by `===`. */
  readonly limiter: object;
  /** The scope and the rule, if the limiter is a RuleLimiter. */
  readonly scope?: string;
  readonly rule?: string;
}

// A static import of Node's module would make the package unusable in browsers.
const diagnostics = globalThis.process?.getBuiltinModule?.('node:diagnostics_channel');
const channel = diagnostics?.channel(BAN_CHANNEL);

/** Whether the channel has subscribers. */
export function hasBanSubscribers(): boolean {
  return channel?.hasSubscribers === true;
}

/** Never throws: Node reports an exception of a subscriber as an uncaught exception. */
export function publishBan(message: BanMessage): void {
  channel?.publish(message);
}
