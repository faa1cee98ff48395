// The public entry relay-limiter/websocket. It only re-exports.

export type { ClientInfo } from '../address/web-request.js';
export type { CountsByReason, GuardStats } from '../guard/guard-stats.js';
export type { WarningCode, WarningOptions } from '../guard/misuse.js';
export type { MessageRule } from '../guard/rules.js';
export type { ConnectionLimits, GuardOptions } from '../guard/settings.js';
export type {
  ConnectionReason,
  GuardVerdict,
  MessageOutcome,
  MessageReason,
} from '../guard/verdicts.js';
export type { AsyncLimiter } from '../limiters/async-limiter.js';
export type { AnyLimiter, BanningLimiter } from '../limiters/verdict.js';
export type { AsyncRuleLimiter } from '../rules/any-rules.js';
export type { Classification } from '../rules/types.js';
export { guardWebSockets } from './guard.js';
export type {
  Admission,
  BunHandlers,
  BunSocket,
  ServerSocket,
  SocketCost,
  SocketData,
  SocketErrorSource,
  SocketGuard,
  SocketGuardOptions,
  SocketVerdict,
  StandardSocket,
} from './types.js';
