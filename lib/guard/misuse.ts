// Warnings about likely mistakes in how a server is limited. Such a mistake makes a limit weaker or stricter than
// intended, but breaks nothing. Each warning is emitted once per process, with a code. No module of Node is imported.

import { readAddress } from '../address/address.js';
import type { ClientRequest } from '../address/client-address.js';
import { invalidValue } from '../common/errors.js';
import { emitWarning } from '../common/warnings.js';
import { isAsyncLimiter } from '../limiters/async-limiter.js';
import { isAsyncRules } from '../rules/any-rules.js';

/** The codes of the warnings. */
export type WarningCode =
  | 'WARN_LIMITER_PROXY'
  | 'WARN_LIMITER_PER_REQUEST'
  | 'WARN_LIMITER_IPV6_KEY'
  | 'WARN_LIMITER_COUNTED_TWICE'
  | 'WARN_LIMITER_CLUSTER'
  | 'WARN_LIMITER_NO_ADDRESS'
  | 'WARN_LIMITER_MAX_PAYLOAD';

/** Emits a warning once per process, unless the option `warnings` is false. `detail` is appended to the message. */
export type Warn = (code: WarningCode, detail?: string) => void;

/** The option that switches warnings off. */
export interface WarningOptions {
  /** Whether `process.emitWarning` reports likely mistakes, each of them once per process. Default true. */
  warnings?: boolean | undefined;
}

const MESSAGES: Readonly<Record<WarningCode, string>> = {
  WARN_LIMITER_PROXY:
    'a request has the header X-Forwarded-For or Forwarded, but trustedProxies is not set: behind a proxy all clients ' +
    'count as one. Set trustedProxies to the proxy; settings of Express or Fastify are not used',
  WARN_LIMITER_PER_REQUEST:
    'a rate limit was created while a request was handled and limits nothing, since each request has a new bucket. ' +
    'Create it once, when the server starts',
  WARN_LIMITER_IPV6_KEY:
    'a key is a whole IPv6 address: a client has 2^64 addresses and evades the limit by changing its address. ' +
    'Return addressKey(address) of relay-limiter/address as the key',
  WARN_LIMITER_COUNTED_TWICE:
    'a rate limit, or a rule of a RuleLimiter, has counted one request twice, so it allows half of its limit. ' +
    'Let each request pass one limit by it',
  WARN_LIMITER_CLUSTER:
    'each worker of the cluster counts by itself, so n workers together allow n times as much. Give limiters the option ' +
    'shared, and divide other numbers by the number of workers. This concerns ',
  WARN_LIMITER_NO_ADDRESS:
    'a WebSocket has no client address, so limits by address do not apply to it. Pass the address that the server ' +
    'knows: guard.upgrade(request, { address }, ...)',
  WARN_LIMITER_MAX_PAYLOAD:
    'a WebSocketServer accepts messages larger than the burst of a rule with cost bytes, and for such a message the ' +
    'guard closes the connection. Set its maxPayload: ',
};

const emitted = new Set<WarningCode>();

function warnOnce(code: WarningCode, detail = ''): void {
  if (emitted.has(code)) return;
  emitted.add(code);
  emitWarning(MESSAGES[code] + detail, { type: 'RelayLimiterWarning', code });
}

/** @throws `ERR_LIMITER_OPTION` */
export function readWarnings({ warnings = true }: Readonly<Record<string, unknown>>): Warn {
  if (typeof warnings !== 'boolean') {
    throw invalidValue('ERR_LIMITER_OPTION', 'warnings', warnings, 'a boolean');
  }
  return warnings ? warnOnce : () => {};
}

/** Call it with a request whose client is identified by the address of the socket. */
export function warnOfProxy({ headers }: ClientRequest, warn: Warn): void {
  const isForwarded = headers['x-forwarded-for'] !== undefined || headers.forwarded !== undefined;
  if (isForwarded) warn('WARN_LIMITER_PROXY');
}

/** Call it with a key that a user's function returned. An IPv4-mapped IPv6 address counts as IPv4. */
export function warnOfKey(key: unknown, warn: Warn): void {
  if (typeof key !== 'string' || !key.includes(':')) return;
  if (readAddress(key)?.length === 4) warn('WARN_LIMITER_IPV6_KEY');
}

/** Whether each process counts for itself: a limiter without the option `shared`, which asks no store. */
export function countsPerProcess(limiter: object): boolean {
  if (isAsyncLimiter(limiter) || isAsyncRules(limiter)) return false;
  return !('shared' in limiter) || limiter.shared === undefined;
}

/** Call it when limits are created, with the options of those that each process counts by itself. */
export function warnOfCluster(warn: Warn, options: readonly string[]): void {
  if (options.length === 0) return;
  const cluster: unknown = globalThis.process?.getBuiltinModule?.('node:cluster');
  const isWorker = (cluster as { isWorker?: boolean } | undefined)?.isWorker === true;
  if (isWorker) warn('WARN_LIMITER_CLUSTER', options.join(', '));
}

/**
 * Call it when a limit is created, and call its result with each request. A server handles no request before the call
 * that created the limit has ended, unless the limit was created while that request was handled.
 */
export function watchForPerRequest(warn: Warn): (request: Pick<ClientRequest, 'socket'>) => void {
  let isNew = true;
  queueMicrotask(() => {
    isNew = false;
  });
  return ({ socket }) => {
    // Tests pass requests without a server to a limit that they have just created.
    if (isNew && (socket as { server?: unknown } | undefined)?.server) {
      warn('WARN_LIMITER_PER_REQUEST');
    }
  };
}
