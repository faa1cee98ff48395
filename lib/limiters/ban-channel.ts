// Bans as events of `node:diagnostics_channel`, beside `onBan`: for logs and monitors that did not make
// the limiter. Where there is no such module, in browsers, there is no channel.

import type { Ban } from '../common/types.js';

/** The name of the channel of `node:diagnostics_channel` on which every ban is published as it begins. */
export const BAN_CHANNEL = 'relay-limiter:ban';

/** A message on the channel. */
export interface BanMessage extends Ban {
  /** The limiter that bans, to be told from others by `===`. */
  readonly limiter: object;
}

// Not imported: a static import of Node's module would keep the package out of browsers.
const diagnostics = globalThis.process?.getBuiltinModule?.('node:diagnostics_channel');
const channel = diagnostics?.channel(BAN_CHANNEL);

/** Whether anybody listens. */
export function bansAreWatched(): boolean {
  return channel?.hasSubscribers === true;
}

/** What a subscriber throws, Node reports as an uncaught exception; it never comes back to here. */
export function publishBan(message: BanMessage): void {
  channel?.publish(message);
}
