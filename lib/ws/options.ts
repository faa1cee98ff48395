// The options of a guard of WebSockets, and its verdicts.

import type { IncomingMessage } from 'node:http';
import type { WebSocket } from 'ws';
import type { ClientAddressOptions } from '../address/client-address.js';
import type { GuardOptions, GuardSettings } from '../guard/settings.js';
import type { GuardVerdict } from '../guard/verdicts.js';
import type { Classification, Keys } from '../rules/types.js';
import type { DeliveryOptions } from './delivery-options.js';
import type { MessageData } from './message.js';

/**
 * Returns the cost of a message. It gets the same arguments as a listener of 'message'. It is not called for pings and
 * pongs: a rule with such a cost does not count them.
 */
export type MessageCost = (data: MessageData, isBinary: boolean) => number;

/** The arguments of a rule's `key` function. */
export type MessageKeyOf = [socket: WebSocket, request: IncomingMessage];

/**
 * A decision on a connection, on a message, on a ping or a pong, or on a message that `send` of the guard or of a group
 * did not send (`'delivery'`).
 */
export interface WebSocketVerdict
  extends GuardVerdict<'message' | 'ping' | 'pong' | 'delivery', WebSocket, MessageData> {
  /** The HTTP request for the upgrade. */
  readonly request: IncomingMessage;
}

/** The connection in which an error occurred. */
export interface WebSocketErrorSource {
  /** Undefined if the connection is not established yet. */
  readonly socket: WebSocket | undefined;
  readonly request: IncomingMessage;
}

/** The options of `guardWebSocketServer`. */
export interface WebSocketGuardOptions
  extends GuardOptions<MessageCost, MessageKeyOf, WebSocketVerdict, WebSocketErrorSource>,
    ClientAddressOptions {
  /**
   * Returns the keys of a connection in more scopes of `limiter` than `connection` and `address`, or undefined. Called
   * once for each connection, before the handshake. If it throws or returns anything else, the client is answered 503.
   */
  keys?: ((request: IncomingMessage) => Keys | undefined) | undefined;
  /**
   * Says what a message is to `limiter`: its action, cost, keys and plan; undefined for an ordinary message. Called once for
   * each message, before any limit, but not for pings and pongs. Its `value` is the third argument of 'message' listeners.
   * If it throws or returns anything else, the connection is closed, and nothing is charged.
   */
  classify?:
    | ((data: MessageData, isBinary: boolean, socket: WebSocket) => Classification | undefined)
    | undefined;
  /** Limits on the messages that `send` of the guard and of its groups sends to each connection. */
  delivery?: DeliveryOptions | undefined;
}

/** Validated options. @internal */
export type WebSocketGuardSettings = GuardSettings<
  MessageCost,
  MessageKeyOf,
  WebSocketVerdict,
  WebSocketErrorSource
>;
