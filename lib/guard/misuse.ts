// Warnings of likely mistakes in how a server is limited: they make limits weaker, or harsher, and break nothing. Each
// is emitted once per process, by process.emitWarning with a code. Nothing here is asked about every request.

import cluster from 'node:cluster';
import type { IncomingMessage } from 'node:http';
import { readAddress } from '../address/address.js';
import type { ClientRequest } from '../address/client-address.js';
import { refused } from '../common/errors.js';

export type WarningCode =
  | 'WARN_LIMITER_PROXY'
  | 'WARN_LIMITER_PER_REQUEST'
  | 'WARN_LIMITER_IPV6_KEY'
  | 'WARN_LIMITER_COUNTED_TWICE'
  | 'WARN_LIMITER_CLUSTER'
  | 'WARN_LIMITER_MAX_PAYLOAD';

/**
 * Emits a warning, unless it was emitted before or its guard has them switched off. `detail` ends the message.
 */
export type Warn = (code: WarningCode, detail?: string) => void;

export interface WarningOptions {
  /** Whether likely mistakes are told by `process.emitWarning`, each once per process. Default true. */
  warnings?: boolean | undefined;
}

const MESSAGES: Readonly<Record<WarningCode, string>> = {
  WARN_LIMITER_PROXY:
    'a request has X-Forwarded-For or Forwarded, but no proxy is trusted: behind a proxy all clients count as one. ' +
    'Name the proxy in trustedProxies, which is asked instead of settings of Express or Fastify',
  WARN_LIMITER_PER_REQUEST:
    'a rate limit was made while a request was handled, and limits nothing: each request finds a full bucket. ' +
    'Make it once, when the server starts',
  WARN_LIMITER_IPV6_KEY:
    'a key is a whole IPv6 address, of which a client has 2^64: it evades its limit by using another one. ' +
    'Return addressKey(address) of relay-limiter/address',
  WARN_LIMITER_COUNTED_TWICE:
    'a rate limit has counted one request twice, so it allows half of what it says. Mount it once on each path',
  WARN_LIMITER_CLUSTER:
    'each worker of the cluster has limits of its own, so all of them together allow as many times more. ' +
    'Divide the limits by the number of workers',
  WARN_LIMITER_MAX_PAYLOAD:
    'a WebSocketServer takes messages above the burst of a rule by bytes, for which the guard closes the connection. ' +
    'Set its maxPayload: ',
};

const emitted = new Set<WarningCode>();

function warnOnce(code: WarningCode, detail = ''): void {
  if (emitted.has(code)) return;
  emitted.add(code);
  process.emitWarning(MESSAGES[code] + detail, { type: 'RelayLimiterWarning', code });
}

/** @throws `ERR_LIMITER_OPTION` */
export function readWarnings({ warnings = true }: Readonly<Record<string, unknown>>): Warn {
  if (typeof warnings !== 'boolean') {
    throw refused('ERR_LIMITER_OPTION', 'warnings', warnings, 'a boolean');
  }
  return warnings ? warnOnce : () => {};
}

/** Of a request whose address is its socket's. */
export function warnOfProxy({ headers }: ClientRequest, warn: Warn): void {
  const isForwarded = headers['x-forwarded-for'] !== undefined || headers.forwarded !== undefined;
  if (isForwarded) warn('WARN_LIMITER_PROXY');
}

/** Of a key that a function of the user's returned. IPv4-mapped addresses are IPv4. */
export function warnOfKey(key: unknown, warn: Warn): void {
  if (typeof key !== 'string' || !key.includes(':')) return;
  const address = readAddress(key);
  if (address !== undefined && 'parts' in address) warn('WARN_LIMITER_IPV6_KEY');
}

/** To be called where limits are made that hold for more than one connection. */
export function warnOfCluster(warn: Warn): void {
  if (cluster.isWorker) warn('WARN_LIMITER_CLUSTER');
}

/**
 * To be called where a limit is made; what it returns, with each request. No request of a server comes before the call
 * that made the limit has ended, unless that is the call that handles it.
 */
export function watchForPerRequest(warn: Warn): (request: IncomingMessage) => void {
  let isNew = true;
  queueMicrotask(() => {
    isNew = false;
  });
  return ({ socket }) => {
    // Tests hand requests of no server to a limit that they have just made.
    if (isNew && (socket as { server?: unknown } | undefined)?.server) {
      warn('WARN_LIMITER_PER_REQUEST');
    }
  };
}
