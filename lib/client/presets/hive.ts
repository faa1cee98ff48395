// Nodes of Hive: JSON-RPC by POST, with quotas in several windows.

import type { LimiterPreset } from './preset.js';

/** See `Presets.hive`. */
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
