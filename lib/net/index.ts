// The public entry relay-limiter/net. It only re-exports.

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
export { type ConnectionGuard, guardConnections } from './connections/guard.js';
export type {
  ConnectionErrorSource,
  ConnectionGuardOptions,
  ConnectionGuardReason,
  ConnectionVerdict,
  ProxyProtocolOptions,
} from './connections/options.js';
export { guardLineServer, type LineGuard } from './guard.js';
export type {
  Farewell,
  Line,
  LineCost,
  LineErrorSource,
  LineGuardOptions,
  LineKeyOf,
  LineVerdict,
} from './options.js';
