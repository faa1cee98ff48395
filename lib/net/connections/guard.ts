// Guards the connections of any server of node:net, node:tls, node:http, node:https or node:http2. It sees a connection
// before the server's own listeners do, so a refused one costs no handshake and no parser.

import { Server, Socket } from 'node:net';
import { type TLSSocket, Server as TlsServer } from 'node:tls';
import { connectionKey } from '../../address/connection-key.js';
import { tryCall } from '../../common/callbacks.js';
import { invalidValue } from '../../common/errors.js';
import { isInstance } from '../../common/kinds.js';
import { isPromise, type MaybePromise } from '../../common/maybe-promise.js';
import { type Client, type ClientAddress, clientAddress } from '../../guard/connection-context.js';
import type { GuardStats } from '../../guard/guard-stats.js';
import { intercept } from '../../guard/server-events.js';
import { CHECK_FAILED, type ConnectionDecision, ServerGuard } from '../../guard/server-guard.js';
import { type Decision, PASSED, UNKNOWN_DELAY } from '../../guard/verdicts.js';
import { tcpSocket } from '../tcp-socket.js';
import { hasLeft, ignoreError, whenDecided } from '../when-decided.js';
import type { MissedDeadline } from './deadlines.js';
import {
  type ConnectionErrorSource,
  type ConnectionGuardOptions,
  type ConnectionGuardSettings,
  type ConnectionVerdict,
  type ProxyProtocolSettings,
  readConnectionOptions,
} from './options.js';
import type { Endpoint } from './proxy-header.js';
import { setEndpoint, takeProxyHeader } from './proxy-stream.js';
import { WatchedConnection } from './watched-connection.js';

/** The guard of a server's connections, as `guardConnections` returns it. */
export interface ConnectionGuard {
  /**
   * Destroys a connection because it broke a rule of your own, and counts it by the limiter `expulsions`. For TLS, either
   * socket of the connection is accepted. Returns false if the connection is not guarded.
   */
  expel(socket: Socket): boolean;
  /** The number of open connections that have passed. */
  readonly connections: number;
  /** The number of connections that wait for their PROXY headers. */
  readonly pending: number;
  /** Returns what the guard has counted, for metrics and the dashboard; no messages. Changes nothing. O(1). */
  getStats(): GuardStats;
  /**
   * Removes the guard: nothing is limited any more, and no PROXY header is read. Connections that wait for their headers
   * are destroyed, all others stay open, and so does the server.
   */
  close(): void;
}

/**
 * Limits the connections of a server before TLS and before HTTP: how often an address connects, how many connections are
 * open at once, and how long a connection may do nothing. A refused connection is destroyed without reading from it, and
 * the server's own listeners never get it. It applies to connections that are made after the call, and to any server of
 * node:net, node:tls, node:http, node:https and node:http2. Call it before or after other guards of the server.
 *
 * With `proxyProtocol` it reads the PROXY header of a load balancer. `socket.remoteAddress`, `remotePort` and
 * `remoteFamily` are then the client's, in all code behind it.
 *
 * It counts connections. Use `rateLimit` of relay-limiter/http for requests: many of them can come on one connection.
 * @example
 * import { once } from 'node:events';
 * import { createServer } from 'node:http';
 * import type { AddressInfo } from 'node:net';
 * import { RateLimiter } from 'relay-limiter';
 * import { guardConnections } from 'relay-limiter/net';
 *
 * const server = createServer((_request, response) => response.end('hello'));
 * const guard = guardConnections(server, {
 *   connections: {
 *     limiter: new RateLimiter({ rateLimit: 2, burstLimit: 20 }),
 *     maxPerAddress: 20,
 *     maxPerNetwork: 200,
 *     maxPerServer: 10_000,
 *   },
 *   firstByteSeconds: 10,
 * });
 * await once(server.listen(0, '127.0.0.1'), 'listening');
 * const { port } = server.address() as AddressInfo;
 * const response = await fetch(`http://127.0.0.1:${port}`);
 * console.log(await response.text(), guard.connections); // hello 1
 * guard.close();
 * server.close();
 * server.closeAllConnections();
 * @throws `ERR_LIMITER_OPTION` for another object than a server of net, tls, http, https or http2, for a server that has
 * such a guard already, and for an invalid option
 */
export function guardConnections(
  server: Server,
  options?: ConnectionGuardOptions,
): ConnectionGuard {
  if (!isInstance(server, Server)) {
    const accepted = 'a server of node:net, node:tls, node:http, node:https or node:http2';
    throw invalidValue('ERR_LIMITER_OPTION', 'the server', server, accepted);
  }
  if (guardedServers.has(server)) {
    const accepted = 'a server without another guard of its connections';
    throw invalidValue('ERR_LIMITER_OPTION', 'the server', server, accepted);
  }
  return new Guard(server, readConnectionOptions(options, server instanceof TlsServer));
}

/** The servers with a guard that is not closed. */
const guardedServers = new WeakSet<Server>();

/** A decision on a connection. */
type Outcome = Omit<Decision, 'did' | 'reason'> & Pick<ConnectionVerdict, 'did' | 'reason'>;

const NO_HEADER: Outcome = { did: 'refused', reason: 'proxy', ...UNKNOWN_DELAY };
const TOO_MANY_PENDING: Outcome = { did: 'refused', reason: 'pending', ...UNKNOWN_DELAY };

/** Emits an event to the listeners of the server. */
type Emit = () => boolean;

/** A connection that has not passed yet. */
interface Arrival {
  readonly socket: Socket;
  readonly emit: Emit;
  /** The address of the proxy that sends a PROXY header. */
  readonly proxy?: string | undefined;
  /** The client that the header names. */
  readonly endpoint?: Endpoint;
}

class Guard
  extends ServerGuard<Socket, ConnectionVerdict, ConnectionErrorSource>
  implements ConnectionGuard
{
  readonly #settings: ConnectionGuardSettings;
  readonly #connections = new WeakMap<Socket, WatchedConnection>();
  /** The connections that wait for a PROXY header, each with a function that stops reading it. */
  readonly #pending = new Map<Socket, () => void>();

  constructor(server: Server, settings: ConnectionGuardSettings) {
    super(settings);
    this.#settings = settings;
    guardedServers.add(server);
    this.setHooks([
      intercept(server, 'connections', (event, emit) => this.#intercept(event, emit)),
      () => guardedServers.delete(server),
      () => this.#destroyPending(),
    ]);
  }

  get pending(): number {
    return this.#pending.size;
  }

  override expel(socket: Socket): boolean {
    return super.expel(tcpSocket(socket));
  }

  #intercept([name, ...args]: readonly unknown[], emit: Emit): boolean {
    if (this.isClosed) return emit();
    if (name === 'connection') return this.#connected(args[0] as Socket, emit);
    if (name === 'secureConnection') this.#secured(args[0] as TLSSocket);
    // This event has the socket whose handshake has failed, so that its address can be logged.
    if (name === 'tlsClientError') this.#connectionOf(args[1])?.passEndpoint(args[1] as TLSSocket);
    return emit();
  }

  #connected(socket: Socket, emit: Emit): boolean {
    if (socket.destroyed) return emit();
    const { proxyProtocol } = this.#settings;
    if (proxyProtocol === undefined) return this.#check({ socket, emit });
    const hasHeader = tryCall(
      () => Boolean(proxyProtocol.trust(socket.remoteAddress, 0)),
      (error) => this.#reportError(error, socket),
    );
    if (hasHeader === false) return this.#check({ socket, emit });
    if (hasHeader === undefined) this.#refuse({ socket }, CHECK_FAILED);
    else this.#awaitHeader({ socket, emit, proxy: socket.remoteAddress }, proxyProtocol);
    return true;
  }

  #awaitHeader(arrival: Arrival, { headerMilliseconds, maxPending }: ProxyProtocolSettings): void {
    const { socket } = arrival;
    if (this.#pending.size >= maxPending) {
      this.#refuse(arrival, TOO_MANY_PENDING);
      return;
    }
    socket.on('error', ignoreError);
    const stop = takeProxyHeader(socket, headerMilliseconds, (header) => {
      // False after `close`, which has destroyed the socket.
      if (!this.#pending.delete(socket)) return;
      if (header === undefined) this.#refuse(arrival, NO_HEADER);
      else if (!socket.destroyed) this.#headerTaken(arrival, header.client);
      socket.off('error', ignoreError);
    });
    this.#pending.set(socket, stop);
  }

  #headerTaken(arrival: Arrival, client: Endpoint | undefined): void {
    if (client === undefined) {
      // The proxy's own connections are not limited: a refused health check would take this server out of service.
      const { socket } = arrival;
      const own = clientAddress(undefined, this.#settings.subnets, socket);
      this.#pass(arrival, { ...own, keys: {} }, PASSED);
      return;
    }
    setEndpoint(arrival.socket, client);
    this.#check({ ...arrival, endpoint: client });
  }

  /** Decides on a connection whose client is known. */
  #check(arrival: Arrival): boolean {
    const { socket, emit } = arrival;
    let client: Client;
    let found: MaybePromise<ConnectionDecision>;
    try {
      client = this.clientOf(socket.remoteAddress, socket);
      found = this.admit(client, socket);
    } catch (error) {
      this.#failed(arrival, error);
      return true;
    }
    if (!isPromise(found)) return this.#decided(arrival, client, found);
    const unlessClosed = (act: () => void) => {
      if (!this.isClosed) act();
      else if (hasLeft(socket)) socket.destroy();
      else emit();
    };
    whenDecided(
      socket,
      found,
      (found) => unlessClosed(() => this.#decided(arrival, client, found)),
      (error) => unlessClosed(() => this.#failed(arrival, error)),
    );
    return true;
  }

  #decided(arrival: Arrival, client: Client, { decision, key }: ConnectionDecision): boolean {
    if (decision.did !== 'passed') this.#refuse(arrival, decision, key);
    else if (hasLeft(arrival.socket)) arrival.socket.destroy();
    else return this.#pass(arrival, client, decision);
    return true;
  }

  #failed(arrival: Arrival, error: unknown): void {
    this.#reportError(error, arrival.socket);
    this.#refuse(arrival, CHECK_FAILED);
  }

  #pass(arrival: Arrival, client: Client, decision: Decision): boolean {
    const { socket, endpoint, emit } = arrival;
    const reportError = (error: unknown) => this.#reportError(error, socket);
    this.guard(socket, client, reportError, (context) => {
      const missed = (reason: MissedDeadline) =>
        this.#report(arrival, context.key, { did: 'closed', reason, ...UNKNOWN_DELAY });
      const { deadlines } = this.#settings;
      const connection = new WatchedConnection(socket, endpoint, deadlines, context, missed);
      this.#connections.set(socket, connection);
      return connection;
    });
    this.#report(arrival, connectionKey(socket), decision as Outcome);
    // `onVerdict` may have expelled it.
    return socket.destroyed || emit();
  }

  #refuse(
    arrival: Omit<Arrival, 'emit'>,
    decision: Outcome | Decision,
    key = this.#addressOf(arrival.socket).key,
  ): void {
    arrival.socket.on('error', ignoreError).destroy();
    this.#report(arrival, key, decision as Outcome);
  }

  #secured(socket: TLSSocket): void {
    const connection = this.#connectionOf(socket);
    connection?.passEndpoint(socket);
    connection?.handshakeDone();
  }

  #connectionOf(socket: unknown): WatchedConnection | undefined {
    return isInstance(socket, Socket) ? this.#connections.get(tcpSocket(socket)) : undefined;
  }

  #destroyPending(): void {
    for (const [socket, stop] of this.#pending) {
      stop();
      socket.destroy();
    }
    this.#pending.clear();
  }

  #addressOf(socket: Socket): ClientAddress {
    return clientAddress(socket.remoteAddress, this.#settings.subnets, socket);
  }

  #reportError(error: unknown, socket: Socket): void {
    this.#settings.onError(error, { socket });
  }

  #report({ socket, proxy }: Omit<Arrival, 'emit'>, key: string, outcome: Outcome): void {
    const established = outcome.did === 'refused' ? undefined : socket;
    const whose = { key, address: socket.remoteAddress, proxy, socket: established };
    this.report(outcome, whose, { socket });
  }
}
