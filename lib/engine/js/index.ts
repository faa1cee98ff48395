// The TypeScript engine: complete, without dependencies, for any JavaScript runtime.

import type { Engine } from '../engine.js';
import type { RulesConfig, RulesCore } from '../rules.js';
import { JsDirectLimiter } from './direct-limiter.js';
import { JsLeaseTable } from './lease-table.js';
import { JsOrderbookLimiter } from './orderbook-limiter.js';
import { JsRateLimiter } from './rate-limiter.js';
import { JsRuleLimiter } from './rules/limiter.js';

export const jsEngine: Engine & { rules(config: RulesConfig): RulesCore } = {
  name: 'js',
  rateLimiter: (config) => new JsRateLimiter(config),
  orderbook: (config) => new JsOrderbookLimiter(config),
  direct: (config) => new JsDirectLimiter(config),
  rules: (config) => new JsRuleLimiter(config),
  leaseTable: () => new JsLeaseTable(),
};
