// The public types of relay-limiter/websocket: sockets and handlers of the servers, options, verdicts and the guard.

import type { ClientAddressOptions } from '../address/client-address.js';
import type { ClientInfo } from '../address/web-request.js';
import type { GuardStats } from '../guard/guard-stats.js';
import type { GuardOptions, GuardSettings } from '../guard/settings.js';
import type { GuardVerdict } from '../guard/verdicts.js';
import type { RulePeer } from '../rules/rule-peer.js';
import type { Classification, Keys } from '../rules/types.js';

/** A message. Text is a string; the type of a binary message depends on the server and its `binaryType`. */
export type SocketData = string | ArrayBuffer | ArrayBufferView | Blob;

/** What the guard needs of any socket. */
export interface ServerSocket {
  /** Closes the connection with a closing handshake. */
  close(code?: number, reason?: string): unknown;
  /** Ends the connection at once. Not all servers have it. */
  terminate?(): unknown;
}

/** A socket of the web standard, as `Deno.upgradeWebSocket` returns it. */
export interface StandardSocket extends ServerSocket {
  /** 0 until the upgrade is complete. */
  readonly readyState?: number;
  /** As `EventTarget.addEventListener`. */
  // biome-ignore lint/suspicious/noExplicitAny: each type library has classes of events of its own.
  addEventListener(type: string, listener: (event: any) => void): void;
  /** As `EventTarget.removeEventListener`. */
  // biome-ignore lint/suspicious/noExplicitAny: as above.
  removeEventListener(type: string, listener: (event: any) => void): void;
  /** As `EventTarget.dispatchEvent`. */
  // biome-ignore lint/suspicious/noExplicitAny: as above.
  dispatchEvent(event: any): boolean;
}

/** A socket of Bun. */
export interface BunSocket extends ServerSocket {
  /** The `data` of `server.upgrade`. */
  readonly data: { readonly admission: Admission };
}

/** The handlers of Bun's sockets: the option `websocket` of `Bun.serve`. Other fields pass unchanged. */
export interface BunHandlers<Socket extends BunSocket> {
  /** Called when the connection is open. */
  open?(socket: Socket): void | Promise<void>;
  /** Called for each message that the guard lets through. With `classify`, `value` is its `value`. */
  // biome-ignore lint/suspicious/noExplicitAny: a Buffer, Uint8Array or ArrayBuffer, by Bun's option binaryType.
  message(socket: Socket, message: any, value?: unknown): void | Promise<void>;
  /** Called when the connection has closed. */
  close?(socket: Socket, code: number, reason: string): void | Promise<void>;
  /** Called for each ping that the guard lets through. */
  // biome-ignore lint/suspicious/noExplicitAny: as for a message.
  ping?(socket: Socket, data: any): void | Promise<void>;
  /** Called for each pong that the guard lets through. */
  // biome-ignore lint/suspicious/noExplicitAny: as for a message.
  pong?(socket: Socket, data: any): void | Promise<void>;
  /** Bytes. The guard lowers it to the largest message that the limits by bytes allow. */
  maxPayloadLength?: number;
}

/**
 * Returns the cost of a message. It is not called for pings and pongs, which Bun passes on: a rule with such a cost does
 * not count them.
 */
export type SocketCost = (data: SocketData, isBinary: boolean) => number;

/** A decision on a connection, on a message, or on a ping or a pong. */
export interface SocketVerdict
  extends GuardVerdict<'message' | 'ping' | 'pong', ServerSocket, SocketData> {
  /** The request for the upgrade. */
  readonly request: Request;
}

/** The connection in which an error occurred. */
export interface SocketErrorSource {
  /** Undefined if the connection is not established yet. */
  readonly socket: ServerSocket | undefined;
  /** Undefined for a socket that was upgraded without the guard. */
  readonly request: Request | undefined;
}

/** The options of `guardWebSockets`. */
export interface SocketGuardOptions
  extends Omit<
      GuardOptions<
        SocketCost,
        [socket: ServerSocket, request: Request],
        SocketVerdict,
        SocketErrorSource
      >,
      'onDelay' | 'maxPauseSeconds'
    >,
    ClientAddressOptions {
  /**
   * What happens to a message that a limit delays: `'drop'` (the default) discards it, `'close'` closes the connection with
   * code 1013. These servers cannot stop reading from one connection, so there is no `'pause'`.
   */
  onDelay?: 'drop' | 'close' | undefined;
  /**
   * Returns the keys of a connection in more scopes of `limiter` than `connection` and `address`, or undefined. Called
   * once for each connection, before the upgrade. If it throws or returns anything else, the client is answered 503.
   */
  keys?: ((request: Request, info: ClientInfo) => Keys | undefined) | undefined;
  /**
   * Says what a message is to `limiter`: its action, cost, keys and plan; undefined for an ordinary message. Called once for
   * each message, before any limit, but not for pings and pongs. Its `value` is passed on: see `valueOfMessage` and `handlers`.
   * If it throws or returns anything else, the connection is closed, and nothing is charged.
   */
  classify?:
    | ((data: SocketData, isBinary: boolean, socket: ServerSocket) => Classification | undefined)
    | undefined;
}

/** Validated options. @internal */
export type SocketGuardSettings = GuardSettings<
  SocketCost,
  [socket: ServerSocket, request: Request],
  SocketVerdict,
  SocketErrorSource
>;

/** A client that may open a connection: one, which must be open ten seconds after the admission. */
export interface Admission {
  /**
   * Guards a socket of the web standard. Call it before any listener is added: the guard stops the events of messages that
   * do not pass. Not for sockets of Bun.
   */
  guard(socket: StandardSocket): void;
}

/** The guard that `guardWebSockets` returns. */
export interface SocketGuard {
  /**
   * Checks that a client connects. If it may, calls `upgrade` and returns its result. If not, returns a refusal: status 429
   * with Retry-After, 403 on a deny list, 503 if a function of the options or a limiter threw.
   *
   * The result is a promise if the limiter of `connections` is a SharedRateLimiter that waits for its store: return it to the
   * server, or await it.
   *
   * A connection counts for `maxPerAddress` from here until it closes. If `upgrade` throws, or returns false or a Response
   * other than 101, there is no connection, and likewise if no socket is open ten seconds later: a socket that comes
   * later is closed with 1011, and `onError` gets `ERR_LIMITER_OPTION`.
   * @throws what `upgrade` throws; `ERR_LIMITER_OPTION` for arguments of other types
   */
  upgrade<Result>(
    request: Request,
    info: ClientInfo | undefined,
    upgrade: (admission: Admission) => Result,
  ): Result | Response | Promise<Awaited<Result> | Response>;
  /**
   * Returns handlers for Bun that check each message before yours. They find the connection by its data:
   * `server.upgrade(request, { data: { admission } })`.
   */
  handlers<Socket extends BunSocket, Others extends object = object>(
    handlers: BunHandlers<Socket> & Others,
  ): BunHandlers<Socket> & Others;
  /** The `value` that `classify` gave the message of an event of a standard socket. */
  valueOfMessage(event: object): unknown;
  /**
   * Closes a connection with code 1008 because it broke a rule of your own. The close is counted by the limiter
   * `expulsions`, and no more messages of the connection are delivered. `reason` is cut to 123 bytes.
   *
   * Returns false if the connection is not guarded or is closing already.
   */
  expel(socket: ServerSocket, reason?: string): boolean;
  /**
   * The peer of a connection in the RuleLimiter of the option `limiter`: `assign` gives it more keys and another plan, for
   * example at a login. Undefined without `limiter`, and if the connection is not guarded.
   */
  peerOf(socket: ServerSocket): RulePeer | undefined;
  /** The number of connections that are guarded. */
  readonly connections: number;
  /** Returns what the guard has counted, for metrics and the dashboard. Changes nothing. O(1). */
  getStats(): GuardStats;
  /** Removes the guard: nothing is limited any more. Connections stay open. */
  close(): void;
}
