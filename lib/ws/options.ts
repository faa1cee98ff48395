// What a guard of WebSockets takes, and what it tells.

import type { IncomingMessage } from 'node:http';
import type { WebSocket } from 'ws';
import type { ClientAddressOptions } from '../address/client-address.js';
import type { GuardOptions, Settings } from '../guard/settings.js';
import type { GuardVerdict } from '../guard/verdicts.js';
import type { MessageData } from './message.js';

/**
 * The cost of a message, from what its listeners will get. Of pings and pongs it is not asked: a rule with
 * such a cost does not count them.
 */
export type MessageCost = (data: MessageData, isBinary: boolean) => number;

/** What a key of one's own is made of. */
export type MessageKeyOf = [socket: WebSocket, request: IncomingMessage];

/** A decision on a connection, a message, or a frame that ws answers by itself. */
export interface WebSocketVerdict
  extends GuardVerdict<'message' | 'ping' | 'pong', WebSocket, MessageData> {
  /** The request that was, or was to be, upgraded. */
  readonly request: IncomingMessage;
}

/** Whose an error is. */
export interface WebSocketErrorSource {
  /** Undefined where there is no connection yet. */
  readonly socket: WebSocket | undefined;
  readonly request: IncomingMessage;
}

export interface WebSocketGuardOptions
  extends GuardOptions<MessageCost, MessageKeyOf, WebSocketVerdict, WebSocketErrorSource>,
    ClientAddressOptions {}

export type WebSocketSettings = Settings<
  MessageCost,
  MessageKeyOf,
  WebSocketVerdict,
  WebSocketErrorSource
>;
