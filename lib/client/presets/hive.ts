// Nodes of Hive: JSON-RPC by POST, with quotas in several windows.

import type { LimiterPreset } from './preset.js';

/**
 * Returns options for a public node of Hive: 240 requests per minute, 1,800 per ten minutes, 9,000 per hour and 21,600
 * per three hours. For several nodes, give a node file to `UpstreamPool` and use only `fetch`. JSON-RPC calls are
 * repeated, except those that broadcast a transaction.
 */
export function hive(): LimiterPreset {
  return {
    limiter: {
      policies: [
        { quota: 240, windowSeconds: 60 },
        { quota: 1_800, windowSeconds: 600 },
        { quota: 9_000, windowSeconds: 3_600 },
        { quota: 21_600, windowSeconds: 10_800 },
      ],
    },
    fetch: {
      retryJsonRpc: (method) => !/broadcast/i.test(method),
      retryStatuses: [500, 502, 504],
    },
  };
}
