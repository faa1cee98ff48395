// The relay in a process of its own, so that its event loop and its memory are its own.

import { LimitingGuard, NO_GUARD } from '../guard.js';
import { Relay } from '../relay.js';
import type { FromRelay, RelayConfig } from './messages.js';
import { REPORT_EVERY, tell, work } from './worker.js';

await work<RelayConfig>(async ({ port, guarded, engine }) => {
  const guard = guarded ? new LimitingGuard(engine) : NO_GUARD;
  const relay = await Relay.listen(port, guard);
  tell<FromRelay>({
    kind: 'listening',
    port: relay.port,
    engine: guard.engine,
  });
  setInterval(() => tell<FromRelay>({ kind: 'counts', counts: relay.counts() }), REPORT_EVERY);
});
