// A guard with a RuleLimiter in virtual time, without network sockets.

import { RuleLimiter, type RuleLimiterOptions } from 'relay-limiter';
import type { WebSocketGuardOptions } from 'relay-limiter/ws';
import type { WebSocket } from 'ws';
import { monotonicSeconds } from '../../dist/common/clock.js';
import { type FakeSocket, guardedVirtually } from './virtual.js';

export const SCOPES = { connection: {}, address: { kind: 'address' }, account: {} } as const;
export const ADDRESS = '192.0.2.1';

/** A rule of so many tokens, and no more for a day. */
export const only = (scope: string, quota: number, fields: object = {}) => ({
  scope,
  quota,
  windowSeconds: 86_400,
  ...fields,
});

/** A guard with a RuleLimiter. `errors` are the codes that `onError` got. */
export function guarded(
  limits: Partial<RuleLimiterOptions>,
  options: WebSocketGuardOptions & { keys?: never } = {},
) {
  const limiter = new RuleLimiter({
    scopes: SCOPES,
    rules: {},
    clock: monotonicSeconds,
    ...limits,
  });
  const errors: unknown[] = [];
  const onError = (error: unknown) => {
    errors.push((error as { code?: unknown }).code ?? (error as Error).message);
  };
  const virtual = guardedVirtually({ limiter, onError, ...options } as WebSocketGuardOptions);
  const peerOf = (socket: FakeSocket) => virtual.guard.peerOf(socket as unknown as WebSocket);
  /** The tokens that a rule has left for a connection. */
  const left = (socket: FakeSocket, rule: string, action = 'message') =>
    peerOf(socket)
      ?.peek(0, action)
      .rules.find((state) => state.rule === rule)?.remaining;
  return { ...virtual, limiter, errors, peerOf, left };
}

/** With the option `keys`, which the type above leaves out. */
export const withKeys = (keys: unknown) => ({ keys }) as { keys: never };
