// The options of guardConnections, and its verdicts.

import type { Socket } from 'node:net';
import { type ClientAddressOptions, readTrust, type Trust } from '../../address/client-address.js';
import { invalidValue } from '../../common/errors.js';
import { positive, readOptions } from '../../common/options.js';
import {
  atMost,
  type GuardOptions,
  type GuardSettings,
  readDeadline,
  readMaximum,
  readSettings,
} from '../../guard/settings.js';
import type { ConnectionReason, GuardVerdict } from '../../guard/verdicts.js';
import type { AsyncRuleLimiter } from '../../rules/any-rules.js';
import type { RuleLimiter } from '../../rules/rule-limiter.js';
import type { DeadlineSettings } from './deadlines.js';

/** Why `guardConnections` refused or closed a connection, besides the reasons of every guard. */
export type ConnectionGuardReason =
  /** A named proxy sent no valid PROXY header in `headerSeconds`. */
  | 'proxy'
  /** `maxPending` connections of named proxies wait for their PROXY headers already. */
  | 'pending'
  /** The TLS handshake took longer than `handshakeSeconds`. */
  | 'handshake'
  /** The client sent no byte in `firstByteSeconds`. */
  | 'silence'
  /** No byte was sent or received for `idleSeconds`. */
  | 'idle'
  /** The server's own code called `expel`. */
  | 'expelled';

/** A decision of `guardConnections` on a connection. */
export interface ConnectionVerdict
  extends Omit<GuardVerdict<never, Socket, never>, 'did' | 'reason' | 'data'> {
  /** The connection passed, was refused before its first byte was read, or was closed later. */
  readonly did: 'passed' | 'refused' | 'closed';
  /** Undefined if it passed. */
  readonly reason: ConnectionReason | ConnectionGuardReason | undefined;
  /** The address of the proxy that sent the PROXY header; undefined without one. */
  readonly proxy: string | undefined;
}

/** The connection in which an error occurred. */
export interface ConnectionErrorSource {
  readonly socket: Socket;
}

/** The PROXY protocol, by which a proxy of TCP connections says who the client is. */
export interface ProxyProtocolOptions {
  /**
   * The proxies that send a PROXY header: addresses, networks and names as in `clientAddress`, or a function of the
   * address. Each of their connections must begin with a header of version 1 or 2, or it is closed. The bytes of all other
   * connections are never read as a header.
   */
  trustedProxies: NonNullable<ClientAddressOptions['trustedProxies']>;
  /** Seconds that a proxy has for its header, greater than 0. Default 5; TCP needs 3 to send a lost segment again. */
  headerSeconds?: number | undefined;
  /** The maximum number of connections that wait for their headers, a whole number of at least 1. Default 1024. */
  maxPending?: number | undefined;
}

/** The options of `guardConnections`. */
export interface ConnectionGuardOptions
  extends Pick<
    GuardOptions<never, never, ConnectionVerdict, ConnectionErrorSource>,
    | 'connections'
    | 'expulsions'
    | 'ipv4Subnet'
    | 'ipv6Subnet'
    | 'warnings'
    | 'onVerdict'
    | 'onError'
  > {
  /**
   * Checks each connection, with the action `connect` and the client's address in the scope `address`, if it has
   * this scope. Its rules, bans and lists apply in this scope, in scopes derived from it and in single scopes. A guard of
   * messages on the same server may have the same limiter, but both charge its rules for `connect`.
   */
  limiter?: RuleLimiter | AsyncRuleLimiter | undefined;
  /** Reads the PROXY protocol of a load balancer. Default: no connection has a header. */
  proxyProtocol?: ProxyProtocolOptions | undefined;
  /**
   * Seconds that a TLS handshake may take, greater than 0; Infinity: only `handshakeTimeout` of the server ends it. A
   * server without TLS ignores it. Default 10.
   */
  handshakeSeconds?: number | undefined;
  /**
   * Seconds in which a client must send its first byte, greater than 0. For protocols in which the client speaks first,
   * as in HTTP and TLS. Default: no deadline.
   */
  firstByteSeconds?: number | undefined;
  /**
   * Seconds after which a connection is closed if no byte was sent or received, greater than 0. It is closed after up to
   * a quarter more. Bytes that the peer does not read do not count as sent. Default: no deadline.
   */
  idleSeconds?: number | undefined;
}

/** Validated options. @internal */
export interface ConnectionGuardSettings
  extends GuardSettings<never, never, ConnectionVerdict, ConnectionErrorSource> {
  readonly deadlines: DeadlineSettings;
  readonly proxyProtocol: ProxyProtocolSettings | undefined;
}

export interface ProxyProtocolSettings {
  readonly trust: Trust;
  readonly headerMilliseconds: number;
  readonly maxPending: number;
}

const OPTIONS = [
  'limiter',
  'connections',
  'expulsions',
  'ipv4Subnet',
  'ipv6Subnet',
  'warnings',
  'onVerdict',
  'onError',
  'proxyProtocol',
  'handshakeSeconds',
  'firstByteSeconds',
  'idleSeconds',
];

/** @throws `ERR_LIMITER_OPTION` @internal */
export function readConnectionOptions(options: unknown, isTls: boolean): ConnectionGuardSettings {
  const given = readOptions('guardConnections', options, OPTIONS);
  const handshake = readDeadline(given, 'handshakeSeconds', 10);
  return {
    ...readSettings<never, never, ConnectionVerdict, ConnectionErrorSource>(given),
    deadlines: {
      handshake: isTls ? handshake : undefined,
      firstByte: readDeadline(given, 'firstByteSeconds', Infinity),
      idle: readDeadline(given, 'idleSeconds', Infinity),
    },
    proxyProtocol: readProxyProtocol(given['proxyProtocol']),
  };
}

function readProxyProtocol(proxyProtocol: unknown): ProxyProtocolSettings | undefined {
  if (proxyProtocol === undefined) return undefined;
  const names = ['trustedProxies', 'headerSeconds', 'maxPending'];
  const given = readOptions('proxyProtocol', proxyProtocol, names);
  const trust = readTrust(given['trustedProxies']);
  if (trust === undefined) {
    const accepted = 'the proxies that send PROXY headers';
    throw invalidValue('ERR_LIMITER_OPTION', 'trustedProxies', trust, accepted);
  }
  return {
    trust,
    headerMilliseconds: atMost(positive(given, 'headerSeconds', 5), 'headerSeconds') * 1000,
    maxPending: readMaximum(given, 'maxPending', 1024),
  };
}
