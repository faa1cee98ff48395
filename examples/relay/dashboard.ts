// The dashboard of a relay's guard, on this machine alone.

import { createDashboard, type Dashboard } from 'relay-limiter/dashboard';
import type { LimitingGuard } from './guard.js';

/** Serves it on `port`, or on a free one where that is taken; resolves with its address. */
export async function serveDashboard(
  guard: LimitingGuard,
  port: number,
): Promise<{ dashboard: Dashboard; url: string }> {
  const dashboard = createDashboard({ limiters: guard.limiters, title: 'A relay under attack' });
  const url = await dashboard.listen(port).catch(() => dashboard.listen());
  return { dashboard, url };
}
