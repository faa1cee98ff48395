// The relay in a process of its own, so that its event loop and its memory are its own.

import { serveDashboard } from '../dashboard.js';
import { LimitingGuard, NO_GUARD } from '../guard.js';
import { Relay } from '../relay.js';
import type { FromRelay, RelayConfig } from './messages.js';
import { REPORT_EVERY, tell, work } from './worker.js';

await work<RelayConfig>(async ({ port, guarded, engine, dashboardPort }) => {
  const guard = guarded ? new LimitingGuard({ engine }) : NO_GUARD;
  const relay = await Relay.listen(port, guard);
  // Without limits there is nothing to watch.
  const served =
    guard instanceof LimitingGuard ? await serveDashboard(guard, dashboardPort) : undefined;
  tell<FromRelay>({
    kind: 'listening',
    port: relay.port,
    engine: guard.engine,
    dashboard: served?.url,
  });
  setInterval(() => tell<FromRelay>({ kind: 'counts', counts: relay.counts() }), REPORT_EVERY);
});
