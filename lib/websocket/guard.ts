// Guards the WebSockets of servers whose upgrade is a function of a web-standard Request: Bun, Deno and others. It checks
// the connection before the upgrade, and each message before any handler gets it. It imports nothing of Node.

import { readAddress } from '../address/address.js';
import { addressResolver, type ClientAddressOptions } from '../address/client-address.js';
import { connectionKey } from '../address/connection-key.js';
import { type ClientInfo, clientRequestOf } from '../address/web-request.js';
import { tryCall } from '../common/callbacks.js';
import { invalidValue, limiterError } from '../common/errors.js';
import { hasMethods, isRecord } from '../common/kinds.js';
import { isPromise, type MaybePromise, mapMaybePromise } from '../common/maybe-promise.js';
import { readOptions } from '../common/options.js';
import { type Client, type ConnectionContext, clientAddress } from '../guard/connection-context.js';
import { warnOfProxy } from '../guard/misuse.js';
import { refusalAnswer } from '../guard/refusal-answer.js';
import { maxMessageBytes } from '../guard/rules.js';
import { CHECK_FAILED, type ConnectionDecision, ServerGuard } from '../guard/server-guard.js';
import { GUARD_OPTIONS, readSettings } from '../guard/settings.js';
import { type Decision, KEY_FAILED } from '../guard/verdicts.js';
import { Admitted } from './admitted.js';
import { closeSocket, type FrameKind, GuardedSocket } from './socket.js';
import type {
  Admission,
  BunHandlers,
  BunSocket,
  ServerSocket,
  SocketData,
  SocketErrorSource,
  SocketGuard,
  SocketGuardOptions,
  SocketGuardSettings,
  SocketVerdict,
  StandardSocket,
} from './types.js';

/** What `keys` is made of: it gets both. */
interface Connecting {
  readonly request: Request;
  readonly info: ClientInfo;
}

type AddressOf = (request: Request, info: ClientInfo) => string | undefined;

const OPTIONS = ['trustedProxies', ...GUARD_OPTIONS.filter((name) => name !== 'maxPauseSeconds')];
const INTERNAL_ERROR = [1011, 'internal error'] as const;
const OPEN = 1;
const CLOSED = 3;

/**
 * Returns a guard of the connections and the messages of WebSockets of Bun, Deno and other servers with sockets of the web
 * standard. For the package ws use `guardWebSocketServer` of relay-limiter/ws.
 *
 * These servers receive a whole message before the guard can count it: set their limit of a message's length. In Bun the
 * guard lowers it to what the limits by bytes allow. A socket of Bun that does not answer a close in `closeGraceSeconds` is
 * terminated; a standard one cannot be.
 * @throws `ERR_LIMITER_OPTION` for an invalid option
 * @example
 * import { RateLimiter } from 'relay-limiter';
 * import { guardWebSockets } from 'relay-limiter/websocket';
 *
 * const guard = guardWebSockets({
 *   connections: { maxPerAddress: 1 },
 *   messages: { limiter: new RateLimiter({ rateLimit: 10 }) },
 * });
 * // In Deno: Deno.serve((request, { remoteAddr }) => handle(request, remoteAddr.hostname, Deno.upgradeWebSocket)).
 * function handle(
 *   request: Request,
 *   address: string,
 *   upgrade: (request: Request) => { socket: WebSocket; response: Response },
 * ) {
 *   return guard.upgrade(request, { address }, (admission) => {
 *     const { socket, response } = upgrade(request);
 *     admission.guard(socket);
 *     socket.addEventListener('message', ({ data }) => socket.send(data));
 *     return response;
 *   });
 * }
 * console.log(guard.connections, typeof handle); // 0 function
 */
export function guardWebSockets(options: SocketGuardOptions): SocketGuard {
  const given = readOptions('guardWebSockets', options, OPTIONS);
  const settings: SocketGuardSettings = readSettings(withBoth(given), ['drop', 'close']);
  const { trustedProxies } = given as ClientAddressOptions;
  const resolve = addressResolver({ trustedProxies });
  const { limitsAddresses, warn } = settings;
  return new Guard(settings, (request, info) => {
    const connecting = clientRequestOf(request, info);
    if (limitsAddresses && trustedProxies === undefined) warnOfProxy(connecting, warn);
    const address = resolve(connecting);
    if (limitsAddresses && readAddress(address) === undefined) warn('WARN_LIMITER_NO_ADDRESS');
    return address;
  });
}

/** Makes `keys` a function of one value. */
function withBoth(given: Readonly<Record<string, unknown>>) {
  const { keys } = given;
  if (typeof keys !== 'function') return given;
  return { ...given, keys: ({ request, info }: Connecting): unknown => keys(request, info) };
}

class Guard
  extends ServerGuard<ServerSocket, SocketVerdict, SocketErrorSource>
  implements SocketGuard
{
  readonly #settings: SocketGuardSettings;
  readonly #addressOf: AddressOf;
  readonly #values = new WeakMap<object, unknown>();

  constructor(settings: SocketGuardSettings, addressOf: AddressOf) {
    super(settings);
    this.#settings = settings;
    this.#addressOf = addressOf;
  }

  upgrade<Result>(
    request: Request,
    info: ClientInfo | undefined,
    upgrade: (admission: Admission) => Result,
  ): Result | Response | Promise<Awaited<Result> | Response> {
    requireUpgrade(request, upgrade);
    const decided = (admitted: Admitted | Decision): Result | Response => {
      if (admitted instanceof Admitted) return admitted.run(upgrade);
      const { status, text, headers } = refusalAnswer(admitted);
      return new Response(text, { status, headers });
    };
    const admitted = this.#admit({ request, info: info ?? {} });
    return mapMaybePromise(admitted, decided) as ReturnType<typeof this.upgrade<Result>>;
  }

  handlers<Socket extends BunSocket, Others extends object = object>(
    handlers: BunHandlers<Socket> & Others,
  ): BunHandlers<Socket> & Others {
    requireHandlers(handlers);
    const guarded = new WeakMap<Socket, GuardedSocket>();
    /** Passes a message on, if it passes: the result is that of the handler, unless a limiter answers later. */
    const receive = <Result>(
      socket: Socket,
      data: SocketData,
      frame: FrameKind,
      pass: (value: unknown) => Result,
    ): Result | undefined => {
      const connection = guarded.get(socket);
      if (connection === undefined) return this.isClosed ? pass(undefined) : undefined;
      const { isPassed, value } = connection.receive(data, frame, pass);
      return isPassed ? pass(value) : undefined;
    };
    const { classifies = false } = this.#settings.limits ?? {};
    const { maxPayloadLength = Infinity } = handlers;
    const maxBytes = Math.min(maxMessageBytes(this.#settings), maxPayloadLength);
    return {
      ...handlers,
      ...(maxBytes < Infinity ? { maxPayloadLength: maxBytes } : {}),
      open: (socket) => {
        const connection = this.#openBun(socket);
        if (connection !== undefined) guarded.set(socket, connection);
        if (connection !== undefined || this.isClosed) return handlers.open?.(socket);
      },
      message: (socket, data) => {
        const frame = typeof data === 'string' ? 'text' : 'binary';
        return receive(socket, data, frame, (value) =>
          classifies ? handlers.message(socket, data, value) : handlers.message(socket, data),
        );
      },
      ping: (socket, data) => receive(socket, data, 'ping', () => handlers.ping?.(socket, data)),
      pong: (socket, data) => receive(socket, data, 'pong', () => handlers.pong?.(socket, data)),
      close: (socket, code, reason) => {
        const connection = guarded.get(socket);
        const end = () => {
          try {
            return handlers.close?.(socket, code, reason);
          } finally {
            connection?.closed();
            admittedOf(socket)?.ended(socket);
          }
        };
        return connection?.hasWaiting === true ? connection.afterWaiting(end) : end();
      },
    };
  }

  valueOfMessage(event: object): unknown {
    return this.#values.get(event);
  }

  /** Guards a standard socket. */
  #attachStandard(admitted: Admitted, socket: StandardSocket): void {
    // Events in place of those that were stopped until a limiter has answered.
    const late = new WeakSet<Event>();
    const dispatchLate = (stopped: Event, value?: unknown) => {
      const event = copyOf(stopped);
      late.add(event);
      if (value !== undefined) this.#values.set(event, value);
      socket.dispatchEvent(event);
    };
    const onMessage = (event: MessageEvent<SocketData>) => {
      if (late.has(event)) return;
      const { data } = event;
      const frame = typeof data === 'string' ? 'text' : 'binary';
      const received = connection?.receive(data, frame, (value) => dispatchLate(event, value));
      if (received?.isPassed !== true) event.stopImmediatePropagation();
      else if (received.value !== undefined) this.#values.set(event, received.value);
    };
    socket.addEventListener('message', onMessage);
    const removeHooks = () => socket.removeEventListener('message', onMessage);
    const connection = this.#attach(admitted, socket, removeHooks);
    if (!admitted.has(socket)) return;
    const ended = () => {
      connection?.closed();
      admitted.ended(socket);
    };
    socket.addEventListener('open', () => admitted.opened());
    socket.addEventListener('close', (event: Event) => {
      if (late.has(event)) return;
      if (connection?.hasWaiting !== true) {
        ended();
        return;
      }
      event.stopImmediatePropagation();
      connection.afterWaiting(() => {
        ended();
        dispatchLate(event);
      });
    });
    // Deno reports nothing if the client leaves in the handshake.
    admitted.onExpired(() => {
      ended();
      tryCall(
        () => socket.close(),
        () => {},
      );
    });
    const { readyState = OPEN } = socket;
    if (readyState === OPEN) admitted.opened();
    // It has emitted 'close' already.
    if (readyState === CLOSED) ended();
  }

  /** Decides on a connection. The decision if it is refused. */
  #admit(connecting: Connecting): MaybePromise<Admitted | Decision> {
    const { request, info } = connecting;
    const attach = (admitted: Admitted, socket: StandardSocket) =>
      this.#attachStandard(admitted, socket);
    if (this.isClosed) return new Admitted(request, undefined, attach);
    const failed = (error: unknown): Decision => {
      this.#settings.onError(error, { socket: undefined, request });
      const { key } = clientAddress(undefined, this.#settings.subnets, connecting);
      this.#report(undefined, request, key, undefined, CHECK_FAILED);
      return CHECK_FAILED;
    };
    let client: Client;
    let admitted: Admitted;
    let found: MaybePromise<ConnectionDecision>;
    try {
      client = this.clientOf(this.#addressOf(request, info), connecting, connecting);
      admitted = new Admitted(request, client, attach);
      found = this.admit(client, admitted);
    } catch (error) {
      return failed(error);
    }
    const decided = ({ decision, key }: ConnectionDecision) => {
      if (decision.did === 'passed') {
        admitted.passed(decision);
        return admitted;
      }
      this.#report(client.address, request, key, undefined, decision);
      return decision;
    };
    if (!isPromise(found)) return decided(found);
    const unlessClosed = (act: () => Admitted | Decision) =>
      this.isClosed ? new Admitted(request, undefined, attach) : act();
    return found.then(
      (found) => unlessClosed(() => decided(found)),
      (error) => unlessClosed(() => failed(error)),
    );
  }

  /** Guards a socket; undefined if that fails, and the socket is closed then, or if the guard was closed. */
  #attach(
    admitted: Admitted,
    socket: ServerSocket,
    removeHooks: () => void,
  ): GuardedSocket | undefined {
    const { request, client, decision } = admitted;
    const isTaken = admitted.take(socket);
    if (this.isClosed || client === undefined) {
      removeHooks();
      return undefined;
    }
    let guarded: GuardedSocket | undefined;
    const make = (context: ConnectionContext) => {
      guarded = new GuardedSocket(socket, request, this.#settings, context, removeHooks);
      return guarded;
    };
    const reportError = (error: unknown) => this.#settings.onError(error, { socket, request });
    if (!isTaken) {
      const message =
        'the admission of a socket must be unused and at most ten seconds old, got another one';
      reportError(limiterError(Error, 'ERR_LIMITER_OPTION', message));
    }
    const isGuarded = isTaken && this.guard(socket, client, reportError, make);
    if (!isGuarded) closeSocket(socket, ...INTERNAL_ERROR);
    const done = isGuarded && decision !== undefined ? decision : KEY_FAILED;
    this.#report(client.address, request, connectionKey(socket), socket, done);
    return guarded;
  }

  #openBun(socket: BunSocket): GuardedSocket | undefined {
    const admitted = admittedOf(socket);
    if (admitted !== undefined) {
      admitted.opened();
      return this.#attach(admitted, socket, () => {});
    }
    if (this.isClosed) return undefined;
    const message =
      'the data of a socket must be { admission }, the admission of guard.upgrade, got none';
    const error = limiterError(TypeError, 'ERR_LIMITER_OPTION', message);
    this.#settings.onError(error, { socket, request: undefined });
    closeSocket(socket, ...INTERNAL_ERROR);
    return undefined;
  }

  #report(
    address: string | undefined,
    request: Request,
    key: string,
    socket: ServerSocket | undefined,
    decision: Decision,
  ): void {
    this.report(decision, { key, address, socket, request }, { socket, request });
  }
}

/** An event of the same class with the same fields: one that was stopped cannot be dispatched again everywhere. */
function copyOf(event: Event): Event {
  const EventClass = event.constructor as new (type: string, fields: object) => Event;
  return new EventClass(event.type, event);
}

function admittedOf({ data }: BunSocket): Admitted | undefined {
  const admission: unknown = (data as BunSocket['data'] | undefined)?.admission;
  return admission instanceof Admitted ? admission : undefined;
}

function requireUpgrade(request: unknown, upgrade: unknown): void {
  if (!hasMethods((request as Request | undefined)?.headers, 'get')) {
    throw invalidValue('ERR_LIMITER_OPTION', 'the request', request, 'a Request');
  }
  if (typeof upgrade !== 'function') {
    throw invalidValue('ERR_LIMITER_OPTION', 'upgrade', upgrade, 'a function');
  }
}

function requireHandlers(handlers: unknown): void {
  if (isRecord(handlers) && typeof handlers['message'] === 'function') return;
  const accepted = 'an object with a function message';
  throw invalidValue('ERR_LIMITER_OPTION', 'handlers', handlers, accepted);
}
