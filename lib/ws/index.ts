// The entry relay-limiter/ws: names only.

export type { ConnectionReason } from '../guard/door.js';
export type { MessageReason } from '../guard/gate.js';
export type { WarningCode, WarningOptions } from '../guard/misuse.js';
export type { MessageRule } from '../guard/rules.js';
export type { ConnectionLimits } from '../guard/settings.js';
export type { AnyLimiter, BanningLimiter } from '../limiters/verdict.js';
export { guardWebSocketServer, type WebSocketGuard } from './guard.js';
export type { MessageData } from './message.js';
export type {
  MessageCost,
  MessageKeyOf,
  WebSocketErrorSource,
  WebSocketGuardOptions,
  WebSocketVerdict,
} from './options.js';
