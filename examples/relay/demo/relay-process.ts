// Runs the relay in a separate process, with its own event loop and memory.

import { serveDashboard } from '../dashboard.js';
import { LimitingGuard, NO_GUARD } from '../guard.js';
import { Relay } from '../relay.js';
import type { FromRelay, RelayConfig } from './messages.js';
import { REPORT_EVERY, sendToParent, work } from './worker.js';

await work<RelayConfig>(async ({ port, guarded, engine, dashboardPort }) => {
  const guard = guarded ? new LimitingGuard({ engine }) : NO_GUARD;
  const relay = await Relay.listen(port, guard);
  // Without limits the dashboard would show nothing.
  const served =
    guard instanceof LimitingGuard ? await serveDashboard(guard, dashboardPort) : undefined;
  sendToParent<FromRelay>({
    kind: 'listening',
    port: relay.port,
    engine: guard.engine,
    dashboard: served?.url,
  });
  setInterval(
    () => sendToParent<FromRelay>({ kind: 'counts', counts: relay.counts() }),
    REPORT_EVERY,
  );
});
