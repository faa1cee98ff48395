// Guards a server of the ws package: refuses connections before they are upgraded, and checks the messages of each
// WebSocket before its listeners get them. The user's own verifyClient is still called, and `close` restores the server.

import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import type { ServerOptions, VerifyClientCallbackAsync, WebSocket, WebSocketServer } from 'ws';
import { addressResolver, type ClientAddressOptions } from '../address/client-address.js';
import { connectionKey } from '../address/connection-key.js';
import { callSafely } from '../common/callbacks.js';
import { invalidValue } from '../common/errors.js';
import { hasMethods } from '../common/kinds.js';
import { isPromise, type MaybePromise } from '../common/maybe-promise.js';
import { readOptions } from '../common/options.js';
import {
  type Client,
  type ClientAddress,
  type ConnectionContext,
  clientAddress,
} from '../guard/connection-context.js';
import type { GuardStats } from '../guard/guard-stats.js';
import { warnOfProxy } from '../guard/misuse.js';
import { override } from '../guard/override.js';
import { refusalAnswer } from '../guard/refusal-answer.js';
import { maxMessageBytes } from '../guard/rules.js';
import {
  type Admission,
  CHECK_FAILED,
  type ConnectionDecision,
  ServerGuard,
} from '../guard/server-guard.js';
import { GUARD_OPTIONS, readSettings } from '../guard/settings.js';
import { type Decision, KEY_FAILED } from '../guard/verdicts.js';
import type { RulePeer } from '../rules/rule-peer.js';
import { Delivery, type DeliveryCounts } from './delivery.js';
import { type DeliverySettings, readDelivery } from './delivery-options.js';
import type {
  WebSocketErrorSource,
  WebSocketGuardOptions,
  WebSocketGuardSettings,
  WebSocketVerdict,
} from './options.js';
import type { OutgoingData, SendOptions } from './outgoing.js';
import { GuardedSocket } from './socket.js';
import type { SocketGroup } from './socket-group.js';

/** The guard of a WebSocketServer, as `guardWebSocketServer` returns it. */
export interface WebSocketGuard {
  /**
   * Closes a connection with code 1008 because it broke a rule of your own. The close is counted by the limiter
   * `expulsions`, no more messages of the connection are delivered, and the connection is terminated if the peer does not
   * answer in `closeGraceSeconds`. `reason` is cut to 123 bytes, the most that a close frame can hold.
   *
   * Returns false if the connection is not guarded or is closing already.
   */
  expel(socket: WebSocket, reason?: string): boolean;
  /**
   * The peer of a connection in the RuleLimiter of the option `limiter`: `assign` gives it more keys and another plan, for
   * example at a login. Undefined without `limiter`, and if the connection is not guarded.
   */
  peerOf(socket: WebSocket): RulePeer | undefined;
  /**
   * Sends a message to a connection, and returns whether it was sent. It is not sent if the connection is closing or
   * slow, or if the limiter of `delivery` refuses it; `onVerdict` gets a verdict of the kind `'delivery'` in the last two
   * cases, unless it is running. The limiter is checked first, so a message for a slow connection takes its tokens.
   *
   * If the limiter is a SharedRateLimiter that waits for its store, the result is true, and the message is sent when it is
   * allowed; if it is refused then, or its connection has become slow, `onVerdict` gets the verdict. A connection that closes
   * before gets none of what waits. A slow connection takes no tokens of a SharedRateLimiter.
   *
   * The messages that are sent arrive in order and whole. Between the fragments of a message that you send yourself
   * (`fin: false`), do not call it. A connection that the guard does not guard has the same limits, but is never closed.
   * @throws `ERR_LIMITER_OPTION` for an invalid socket, data or option, `ERR_LIMITER_COST`, and what the limiter's check
   * throws; then nothing is sent.
   */
  send(socket: WebSocket, data: OutgoingData, options?: SendOptions): boolean;
  /**
   * Returns a group of connections that get the same messages. Its `send` encodes a message once, checks the limiter
   * once for all members, and returns to how many members the message was sent. Default: no members.
   * @throws `ERR_LIMITER_OPTION` unless `sockets` are WebSockets
   */
  group(sockets?: Iterable<WebSocket>): SocketGroup;
  /** What became of the messages that `send` of the guard and of its groups was given. */
  readonly deliveries: DeliveryCounts;
  /** The number of connections that are guarded. */
  readonly connections: number;
  /** Returns what the guard has counted, for metrics and the dashboard. Changes nothing. O(1). */
  getStats(): GuardStats;
  /** Removes the guard: nothing is limited any more, and waiting messages are delivered. The server stays open. */
  close(): void;
}

type VerifyClient = NonNullable<ServerOptions['verifyClient']>;
type VerifyCallback = Parameters<VerifyClientCallbackAsync>[1];

/** Lets the user's verifyClient decide on a connection that has passed. */
type Pass = (admission: Admission | undefined) => void;

/**
 * Limits the connections and the messages of a `WebSocketServer`. It works in each mode of the server and applies to
 * connections that are made after the call. No listener gets a message that a limit refuses, whether the listener was
 * added before or after the call.
 *
 * Set the server's `maxPayload`: ws receives a whole message before the guard can count it. If `maxPayload` is above the
 * burst of a rule with the cost `'bytes'`, the guard lowers it to that burst and emits the process warning
 * `WARN_LIMITER_MAX_PAYLOAD`. Likewise for the rules by bytes of `limiter`. If the server is behind a proxy, set `trustedProxies`.
 * @example
 * import { once } from 'node:events';
 * import { RateLimiter } from 'relay-limiter';
 * import { guardWebSocketServer } from 'relay-limiter/ws';
 * import { WebSocketServer } from 'ws';
 *
 * const server = new WebSocketServer({ host: '127.0.0.1', port: 0, maxPayload: 65_536 });
 * await once(server, 'listening');
 * const guard = guardWebSocketServer(server, {
 *   connections: { maxPerAddress: 20 },
 *   messages: { limiter: new RateLimiter({ rateLimit: 10 }) },
 *   onDelay: 'pause',
 * });
 * server.on('connection', (socket) => {
 *   socket.on('message', (data) => socket.send(String(data)));
 * });
 * console.log(guard.connections); // 0
 * guard.close();
 * server.close();
 * @throws `ERR_LIMITER_OPTION` if the server is not a WebSocketServer, or if an option is invalid
 */
export function guardWebSocketServer(
  server: WebSocketServer,
  options?: WebSocketGuardOptions,
): WebSocketGuard {
  if (!hasMethods(server, 'handleUpgrade')) {
    throw invalidValue(
      'ERR_LIMITER_OPTION',
      'the server',
      server,
      "a WebSocketServer of the package 'ws'",
    );
  }
  const given = readOptions('guardWebSocketServer', options, [
    'trustedProxies',
    'delivery',
    ...GUARD_OPTIONS,
  ]);
  const { trustedProxies } = given as ClientAddressOptions;
  const delivery = readDelivery(given['delivery'], given['limiter']);
  const settings: WebSocketGuardSettings = readSettings(given);
  const resolve = addressResolver({ trustedProxies });
  if (trustedProxies !== undefined || !settings.limitsAddresses) {
    return new Guard(server, settings, delivery, resolve);
  }
  return new Guard(server, settings, delivery, (request) => {
    warnOfProxy(request, settings.warn);
    return resolve(request);
  });
}

class Guard
  extends ServerGuard<WebSocket, WebSocketVerdict, WebSocketErrorSource>
  implements WebSocketGuard
{
  readonly #settings: WebSocketGuardSettings;
  readonly #delivery: Delivery;
  readonly #resolve: (request: IncomingMessage) => string | undefined;

  constructor(
    server: WebSocketServer,
    settings: WebSocketGuardSettings,
    delivery: DeliverySettings,
    resolve: (request: IncomingMessage) => string | undefined,
  ) {
    super(settings);
    this.#settings = settings;
    this.#resolve = resolve;
    const payload = new PayloadLimit(server, settings);
    this.#delivery = new Delivery(delivery, settings);
    const { handleUpgrade } = server;
    // In every mode of the server, the callback of handleUpgrade is the first code that gets a WebSocket.
    const guardedUpgrade: typeof handleUpgrade = (request, socket, head, callback) => {
      if (!this.isClosed) payload.apply();
      let admission: Admission | undefined;
      const onUpgrade = (webSocket: WebSocket, request: IncomingMessage) => {
        if (admission === undefined || this.#attach(webSocket, request, socket, admission)) {
          callback(webSocket, request);
        }
      };
      // handleUpgrade calls verifyClient before it returns, so no other code can replace this function in between.
      const { options } = server;
      const userVerify = options.verifyClient;
      options.verifyClient = (info: { req: IncomingMessage }, answer: VerifyCallback) => {
        const pass = (admitted: Admission | undefined) => {
          admission = admitted;
          callVerifyClient(userVerify, info, answer);
        };
        // A destroyed socket emits no more 'close', so it could not be removed again; ws discards the connection.
        if (this.isClosed || request.socket.destroyed) pass(undefined);
        else this.#admit(request, answer, pass);
      };
      try {
        handleUpgrade.call(server, request, socket, head, onUpgrade);
      } finally {
        options.verifyClient = userVerify;
      }
    };
    this.setHooks([override(server, 'handleUpgrade', guardedUpgrade), () => payload.restore()]);
  }

  override getStats(): GuardStats {
    return { ...super.getStats(), deliveries: this.deliveries };
  }

  get deliveries(): DeliveryCounts {
    return this.#delivery.counts;
  }

  send(socket: WebSocket, data: OutgoingData, options?: SendOptions): boolean {
    return this.#delivery.send(socket, data, options);
  }

  group(sockets: Iterable<WebSocket> = []): SocketGroup {
    return this.#delivery.group(sockets);
  }

  override close(): void {
    super.close();
    this.#delivery.close();
  }

  /** Decides on a connection. If it does not pass, the request is answered here. */
  #admit(request: IncomingMessage, answer: VerifyCallback, pass: Pass): void {
    const { socket } = request;
    let client: Client;
    let found: MaybePromise<ConnectionDecision>;
    try {
      client = this.clientOf(this.#resolve(request), socket, request);
      found = this.admit(client, socket);
    } catch (error) {
      this.#failed(request, answer, error);
      return;
    }
    const decided = ({ decision, key }: ConnectionDecision) => {
      if (decision.did === 'passed') {
        pass({ client, decision });
        return;
      }
      answerRefusal(answer, decision);
      this.#report(client, request, key, undefined, decision);
    };
    if (!isPromise(found)) {
      decided(found);
      return;
    }
    const answered = (act: () => void) =>
      callSafely(() => (this.isClosed ? pass(undefined) : act()));
    found.then(
      (found) => answered(() => decided(found)),
      (error) => answered(() => this.#failed(request, answer, error)),
    );
  }

  #failed(request: IncomingMessage, answer: VerifyCallback, error: unknown): void {
    this.#reportError(error, undefined, request);
    answerRefusal(answer, CHECK_FAILED);
    const unknown = clientAddress(undefined, this.#settings.subnets, request.socket);
    this.#report(unknown, request, unknown.key, undefined, CHECK_FAILED);
  }

  /** Guards a new WebSocket; false if that fails, and the WebSocket is closed then. */
  #attach(
    socket: WebSocket,
    request: IncomingMessage,
    stream: Duplex,
    { client, decision }: Admission,
  ): boolean {
    if (this.isClosed) return true;
    const make = (context: ConnectionContext) => {
      const guarded = new GuardedSocket(socket, request, this.#settings, context);
      const close = () => guarded.expel('slow');
      const { peer } = guarded;
      this.#delivery.connect(socket, { request, stream, address: client.address, peer, close });
      return guarded;
    };
    const reportError = (error: unknown) => this.#reportError(error, socket, request);
    const isGuarded = this.guard(socket, client, reportError, make);
    if (!isGuarded) {
      socket.on('error', () => {});
      socket.close(1011, 'internal error');
    }
    const done = isGuarded ? decision : KEY_FAILED;
    this.#report(client, request, connectionKey(socket), socket, done);
    return isGuarded;
  }

  #reportError(error: unknown, socket: WebSocket | undefined, request: IncomingMessage): void {
    this.#settings.onError(error, { socket, request });
  }

  #report(
    { address }: ClientAddress,
    request: IncomingMessage,
    key: string,
    socket: WebSocket | undefined,
    decision: Decision,
  ): void {
    this.report(decision, { key, address, socket, request }, { socket, request });
  }
}

function answerRefusal(answer: VerifyCallback, decision: Decision): void {
  const { status, text, headers } = refusalAnswer(decision);
  answer(false, status, text, headers);
}

/**
 * Lowers `maxPayload` to the longest message that the rules by bytes can allow. ws keeps the received part of a message
 * until it is complete, up to `maxPayload`. With the lower limit ws closes the connection as soon as it knows the
 * message's length.
 */
class PayloadLimit {
  readonly #options: WebSocketServer['options'];
  readonly #settings: WebSocketGuardSettings;
  readonly #given: number | undefined;
  /** What the guard has set; undefined if nothing. */
  #own: number | undefined;

  constructor({ options }: WebSocketServer, settings: WebSocketGuardSettings) {
    this.#options = options;
    this.#settings = settings;
    this.#given = options.maxPayload;
    this.apply();
  }

  /** For connections from now on, since an update may have changed the rules. Other code may have changed the option. */
  apply(): void {
    if (this.#isChanged) return;
    const { warn } = this.#settings;
    const given = this.#given || Infinity;
    const maxBytes = maxMessageBytes(this.#settings);
    // ws supports lengths of 31 bits.
    const isLower = maxBytes < given && maxBytes < 2 ** 31;
    if (isLower) warn('WARN_LIMITER_MAX_PAYLOAD', `at most ${maxBytes}, got ${given}`);
    this.#set(isLower ? maxBytes : undefined);
  }

  restore(): void {
    if (!this.#isChanged) this.#set(undefined);
  }

  get #isChanged(): boolean {
    return this.#options.maxPayload !== (this.#own ?? this.#given);
  }

  #set(own: number | undefined): void {
    if (this.#own === own) return;
    this.#own = own;
    this.#options.maxPayload = own ?? this.#given;
  }
}

/** Calls the user's verifyClient in the same way as ws. */
function callVerifyClient(
  verify: VerifyClient | null | undefined,
  info: object,
  answer: VerifyCallback,
): void {
  if (!verify) answer(true);
  else if (verify.length === 2) {
    (verify as (info: object, answer: VerifyCallback) => void)(info, answer);
  } else answer(Boolean((verify as (info: object) => boolean)(info)), 401);
}
