// A worker of the cluster: a TCP server that checks each line by the name of its peer.

import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { createInterface } from 'node:readline';
import { RateLimiter } from 'relay-limiter';
import { machineSeconds } from '../fleet/messages.js';
import { sendToParent, work } from '../relay/demo/worker.js';
import type { Counts, FromWorker, ToWorker, WorkerConfig } from './messages.js';

const REPORT_EVERY_MS = 100;

await work<WorkerConfig>(async (options) => {
  const limiter = new RateLimiter(options);
  let admitted = 0;
  let refused = 0;
  let admissions: Counts['admissions'] = [];
  const server = createServer((socket) => {
    socket.on('error', () => {});
    createInterface({ input: socket }).on('line', (peer) => {
      const from = machineSeconds();
      const [action] = limiter.check(peer);
      if (action === 'allow') {
        admitted += 1;
        admissions.push([from, machineSeconds()]);
      } else refused += 1;
    });
  });
  // node:cluster gives all workers the same port.
  await once(server.listen(0, '127.0.0.1'), 'listening');
  sendToParent<FromWorker>({ kind: 'listening', port: (server.address() as AddressInfo).port });

  const report = () => {
    sendToParent<FromWorker>({ kind: 'counts', admitted, refused, admissions });
    admissions = [];
  };
  setInterval(report, REPORT_EVERY_MS);
  process.on('message', (message: ToWorker) => {
    if (message === 'report') report();
  });
});
