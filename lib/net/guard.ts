// Guards a TCP or TLS server of a line protocol: destroys refused connections before the user's listeners get them, and
// splits the bytes of the others into lines. `close` restores the server.

import { Server, type Socket } from 'node:net';
import { TLSSocket, Server as TlsServer } from 'node:tls';
import { connectionKey } from '../address/connection-key.js';
import { tryCall } from '../common/callbacks.js';
import { invalidValue, limiterError } from '../common/errors.js';
import { isInstance } from '../common/kinds.js';
import { isPromise, type MaybePromise } from '../common/maybe-promise.js';
import { callback, count, readOptions } from '../common/options.js';
import {
  type Client,
  type ClientAddress,
  type ConnectionContext,
  clientAddress,
} from '../guard/connection-context.js';
import type { GuardStats } from '../guard/guard-stats.js';
import { intercept } from '../guard/server-events.js';
import {
  type Admission,
  CHECK_FAILED,
  type ConnectionDecision,
  ServerGuard,
} from '../guard/server-guard.js';
import { GUARD_OPTIONS, readDeadline, readSettings } from '../guard/settings.js';
import { type Decision, KEY_FAILED, PASSED } from '../guard/verdicts.js';
import type { RulePeer } from '../rules/rule-peer.js';
import type {
  Farewell,
  LineCost,
  LineErrorSource,
  LineGuardOptions,
  LineGuardSettings,
  LineKeyOf,
  LineVerdict,
} from './options.js';
import { GuardedLines } from './socket.js';
import { tcpSocket } from './tcp-socket.js';
import { hasLeft, ignoreError, whenDecided } from './when-decided.js';

/** The guard of a server of a line protocol, as `guardLineServer` returns it. */
export interface LineGuard {
  /**
   * Closes a connection because it broke a rule of your own. The close is counted by the limiter `expulsions`, no more
   * lines of the connection are delivered, and the connection is destroyed if it does not close in `closeGraceSeconds`.
   * `words` is passed to `farewell`.
   *
   * Returns false if the connection is not guarded or is closing already.
   */
  expel(socket: Socket, words?: string): boolean;
  /**
   * The peer of a connection in the RuleLimiter of the option `limiter`: `assign` gives it more keys and another plan, for
   * example at a login. Undefined without `limiter`, and if the connection is not guarded.
   */
  peerOf(socket: Socket): RulePeer | undefined;
  /** The number of connections that are guarded. */
  readonly connections: number;
  /** Returns what the guard has counted, for metrics and the dashboard. Changes nothing. O(1). */
  getStats(): GuardStats;
  /** Removes the guard: nothing is limited any more, and there are no 'line' events. The server stays open. */
  close(): void;
}

/**
 * Limits the connections of a TCP or TLS server and emits their lines as 'line' events of each socket. It applies to
 * connections that are made after the call. A line is emitted only when the limits allow it, without its line end (LF or
 * CRLF). The last line of a connection needs no line end.
 *
 * Add the 'line' listener in the 'connection' event ('secureConnection' for TLS), or pause the socket until you add it.
 * Do not listen to 'data'. A destroyed socket emits no more lines.
 * @example
 * import { once } from 'node:events';
 * import { connect, createServer, type AddressInfo } from 'node:net';
 * import { RateLimiter } from 'relay-limiter';
 * import { guardLineServer } from 'relay-limiter/net';
 *
 * const server = createServer((socket) => {
 *   socket.on('line', (line) => socket.end(`${line}\n`));
 * });
 * const guard = guardLineServer(server, {
 *   connections: { maxPerAddress: 20 },
 *   messages: { limiter: new RateLimiter({ rateLimit: 10 }) },
 *   onDelay: 'pause',
 * });
 * await once(server.listen(0, '127.0.0.1'), 'listening');
 * const client = connect((server.address() as AddressInfo).port, '127.0.0.1');
 * client.write('hello\n');
 * for await (const chunk of client) console.log(String(chunk)); // hello
 * guard.close();
 * server.close();
 * @throws `ERR_LIMITER_OPTION` if the server is not one of node:net or node:tls or has such a guard already, or if an
 * option is invalid
 */
export function guardLineServer(server: Server, options?: LineGuardOptions): LineGuard {
  if (!isInstance(server, Server)) {
    throw invalidValue(
      'ERR_LIMITER_OPTION',
      'the server',
      server,
      'a server of node:net or node:tls',
    );
  }
  if (guardedServers.has(server)) {
    const accepted = 'a server without another line guard, since each line would be emitted twice';
    throw invalidValue('ERR_LIMITER_OPTION', 'the server', server, accepted);
  }
  const own = ['maxLineBytes', 'lineSeconds', 'encoding', 'farewell'];
  const given = readOptions('guardLineServer', options, [...GUARD_OPTIONS, ...own]);
  return new Guard(server, {
    ...readSettings<LineCost, LineKeyOf, LineVerdict, LineErrorSource>(given),
    maxLineBytes: readMaxLineBytes(given),
    lineMilliseconds: readDeadline(given, 'lineSeconds', Infinity),
    encoding: readEncoding(given),
    farewell: readFarewell(given),
  });
}

/** Guards a connection and emits its event to the listeners of the server. */
type Pass = (admission: Admission | undefined) => boolean;

/** The servers with a guard that is not closed. */
const guardedServers = new WeakSet<Server>();

class Guard extends ServerGuard<Socket, LineVerdict, LineErrorSource> implements LineGuard {
  readonly #settings: LineGuardSettings;
  readonly #isTls: boolean;
  /** The TCP connections of a TLS server that have passed. */
  readonly #handshaking = new WeakMap<Socket, Admission>();

  constructor(server: Server, settings: LineGuardSettings) {
    super(settings);
    this.#settings = settings;
    // A TLS server emits 'connection' before the handshake, and 'secureConnection' with the stream to read from.
    this.#isTls = server instanceof TlsServer;
    const removeHook = intercept(server, 'messages', ([name, given], emit) => {
      const socket = given as Socket;
      // A destroyed socket emits no more 'close', so the guard could not forget it.
      if (this.isClosed || socket.destroyed) return emit();
      if (name === 'secureConnection') return this.#secured(socket, emit);
      const pass: Pass = (admission) => {
        if (this.#isTls && admission !== undefined) this.#handshaking.set(socket, admission);
        return this.#isTls || this.#attach(socket, admission) ? emit() : true;
      };
      return name === 'connection' ? this.#admit(socket, pass) : emit();
    });
    guardedServers.add(server);
    this.setHooks([removeHook, () => guardedServers.delete(server)]);
  }

  /** Decides on a connection. If it does not pass, it is closed here. */
  #admit(socket: Socket, pass: Pass): boolean {
    // On a TLS server the user's `keys` gets the stream of 'secureConnection'.
    const source = this.#isTls ? undefined : socket;
    let client: Client;
    let found: MaybePromise<ConnectionDecision>;
    try {
      client = this.clientOf(socket.remoteAddress, socket, source);
      found = this.admit(client, socket);
    } catch (error) {
      this.#failed(socket, error);
      return true;
    }
    if (!isPromise(found)) return this.#decided(socket, client, found, pass);
    this.#decideLater(socket, client, found, pass);
    return true;
  }

  /** Decides on a connection of a TLS server after the handshake, when the user's `keys` can read the certificate. */
  #secured(socket: Socket, emit: () => boolean): boolean {
    const before = this.#handshaking.get(tcpSocket(socket));
    let client: Client;
    let found: MaybePromise<ConnectionDecision>;
    try {
      client = this.clientOf(socket.remoteAddress, socket, socket);
      found = before ? this.admitMore(before, client) : { decision: PASSED, key: client.key };
    } catch (error) {
      this.#failed(socket, error);
      return true;
    }
    const pass: Pass = (admission) => (this.#attach(socket, admission) ? emit() : true);
    if (!isPromise(found)) return this.#decided(socket, client, found, pass);
    this.#decideLater(socket, client, found, pass);
    return true;
  }

  /** Decides on a connection when its limiter has answered. */
  #decideLater(
    socket: Socket,
    client: Client,
    found: PromiseLike<ConnectionDecision>,
    pass: Pass,
  ): void {
    const passLater: Pass = (admission) => {
      if (!hasLeft(socket)) return pass(admission);
      socket.destroy();
      return true;
    };
    const unlessClosed = (act: () => void) => (this.isClosed ? passLater(undefined) : act());
    whenDecided(
      socket,
      found,
      (found) => unlessClosed(() => this.#decided(socket, client, found, passLater)),
      (error) => unlessClosed(() => this.#failed(socket, error)),
    );
  }

  #decided(
    socket: Socket,
    client: Client,
    { decision, key }: ConnectionDecision,
    pass: Pass,
  ): boolean {
    if (decision.did === 'passed') return pass({ client, decision });
    this.#refuse(socket, client, key, decision);
    return true;
  }

  #failed(socket: Socket, error: unknown): void {
    this.#reportError(error, socket);
    const client = this.#addressOf(socket);
    this.#refuse(socket, client, client.key, CHECK_FAILED);
  }

  #refuse(socket: Socket, client: ClientAddress, key: string, decision: Decision): void {
    socket.on('error', ignoreError);
    const text = this.#farewellText(socket, decision.reason as Farewell['reason']);
    if (text === undefined) socket.destroy();
    else this.#endWith(socket, text);
    this.#report(client, key, socket, decision);
  }

  /** Undefined before the handshake of TLS, where plain text would break the protocol. */
  #farewellText(socket: Socket, reason: Farewell['reason']): string | undefined {
    if (this.#isTls && !(socket instanceof TLSSocket)) return undefined;
    return tryCall(
      () => this.#settings.farewell({ reason, words: undefined }),
      (error) => this.#reportError(error, socket),
    );
  }

  /** The socket reads what the peer has sent: unread data causes a TCP reset, and the peer's system discards the text. */
  #endWith(socket: Socket, text: string): void {
    const timer = setTimeout(() => socket.destroy(), this.#settings.graceMilliseconds).unref();
    socket.once('close', () => clearTimeout(timer));
    socket.resume();
    socket.end(text);
  }

  /** Guards a new socket; false if that fails, and the socket is destroyed then. */
  #attach(socket: Socket, admission: Admission | undefined): boolean {
    // Closed during the check.
    if (this.isClosed || admission === undefined) return true;
    const { client, decision } = admission;
    const reportError = (error: unknown) => this.#reportError(error, socket);
    const make = (context: ConnectionContext) => new GuardedLines(socket, this.#settings, context);
    const isGuarded = this.guard(socket, client, reportError, make);
    if (!isGuarded) socket.destroy();
    this.#report(client, connectionKey(socket), socket, isGuarded ? decision : KEY_FAILED);
    return isGuarded;
  }

  #addressOf(socket: Socket): ClientAddress {
    return clientAddress(socket.remoteAddress, this.#settings.subnets, socket);
  }

  #reportError(error: unknown, socket: Socket): void {
    this.#settings.onError(error, { socket });
  }

  #report({ address }: ClientAddress, key: string, socket: Socket, decision: Decision): void {
    const established = decision.did === 'refused' ? undefined : socket;
    this.report(decision, { key, address, socket: established }, { socket });
  }
}

type Given = Readonly<Record<string, unknown>>;

function readMaxLineBytes(given: Given): number {
  const bytes = count(given, 'maxLineBytes', 65_536);
  if (bytes >= 1 && bytes <= 2 ** 30) return bytes;
  const message = `maxLineBytes must be from 1 to 2^30, got ${bytes}`;
  throw limiterError(RangeError, 'ERR_LIMITER_OPTION', message);
}

function readEncoding({ encoding = 'utf8' }: Given): LineGuardSettings['encoding'] {
  if (encoding === 'utf8' || encoding === 'latin1' || encoding === 'buffer') return encoding;
  throw invalidValue('ERR_LIMITER_OPTION', 'encoding', encoding, "'utf8', 'latin1' or 'buffer'");
}

function readFarewell(given: Given): LineGuardSettings['farewell'] {
  const { farewell } = given;
  if (typeof farewell === 'string') return () => farewell;
  const call = callback<(farewell: Farewell) => unknown>(given, 'farewell');
  return (farewell) => {
    const text = call?.(farewell);
    if (text === undefined || typeof text === 'string') return text;
    throw invalidValue('ERR_LIMITER_OPTION', 'farewell()', text, 'a string or undefined');
  };
}
