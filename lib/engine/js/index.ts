// The TypeScript engine: complete, without dependencies, for any JavaScript runtime.

import type { Engine } from '../engine.js';
import { JsDirectLimiter } from './direct-limiter.js';
import { JsLeaseTable } from './lease-table.js';
import { JsOrderbookLimiter } from './orderbook-limiter.js';
import { JsRateLimiter } from './rate-limiter.js';

export const jsEngine: Engine = {
  name: 'js',
  rateLimiter: (config) => new JsRateLimiter(config),
  orderbook: (config) => new JsOrderbookLimiter(config),
  direct: (config) => new JsDirectLimiter(config),
  leaseTable: () => new JsLeaseTable(),
};
