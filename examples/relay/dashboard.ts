// The dashboard of a relay's guard, reachable only from this machine.

import { createDashboard, type Dashboard } from 'relay-limiter/dashboard';
import type { LimitingGuard } from './guard.js';

/** Serves the dashboard on `port`, or on a free port if that one is in use. Resolves with its URL. */
export async function serveDashboard(
  guard: LimitingGuard,
  port: number,
): Promise<{ dashboard: Dashboard; url: string }> {
  const dashboard = createDashboard({ limiters: guard.limiters, title: 'A relay under attack' });
  const url = await dashboard.listen(port).catch(() => dashboard.listen());
  return { dashboard, url };
}
