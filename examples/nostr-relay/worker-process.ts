// A worker of the relay. Its limits are in the table that all workers share; the primary tells it what is not in there: the
// plans of authors, and the events of other workers.

import { on } from 'node:events';
import { sendToParent, work } from '../relay/demo/worker.js';
import { openLog } from './admissions.js';
import { RelayLimits } from './limits.js';
import type { FromWorker, Start, ToWorker, WorkerConfig } from './messages.js';
import { Refusals } from './refusals.js';
import { NostrRelay } from './relay.js';

const REPORT_EVERY_MS = 250;

await work<WorkerConfig>(async (config) => {
  process.on('SIGHUP', () => sendToParent<FromWorker>({ kind: 'reload' }));
  // Keeps messages until they are read.
  const messages = on(process, 'message');
  sendToParent<FromWorker>({ kind: 'ready' });
  const { value } = await messages.next();
  const [{ founding, limits: inForce, stored }] = value as [Start];
  const limits = new RelayLimits(founding, config);
  limits.adopt(inForce);
  const refusals = new Refusals();
  const relay = await NostrRelay.listen({
    ...config,
    limits,
    stored,
    onRefusal: refusals.add,
    onAdmission: openLog(config.log),
    onEvent: (event) => sendToParent<FromWorker>({ kind: 'event', event }),
  });
  sendToParent<FromWorker>({ kind: 'listening', port: relay.port });
  setInterval(() => {
    const counts = refusals.take();
    if (counts.length > 0) sendToParent<FromWorker>({ kind: 'refusals', counts });
  }, REPORT_EVERY_MS);
  for await (const [message] of messages as AsyncIterable<[ToWorker]>) {
    if (message.kind === 'event') relay.receive(message.event);
    else if (message.kind === 'limits') limits.adopt(message.limits);
  }
});
