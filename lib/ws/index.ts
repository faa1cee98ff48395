// The public entry relay-limiter/ws. It only re-exports.

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
export type { DeliveryCounts } from './delivery.js';
export type { DeliveryOptions } from './delivery-options.js';
export { guardWebSocketServer, type WebSocketGuard } from './guard.js';
export type { MessageData } from './message.js';
export type {
  MessageCost,
  MessageKeyOf,
  WebSocketErrorSource,
  WebSocketGuardOptions,
  WebSocketVerdict,
} from './options.js';
export type { OutgoingData, SendOptions } from './outgoing.js';
export type { SocketGroup } from './socket-group.js';
