// Several processes against one store, with clocks that differ by minutes and run a thousandth fast or
// slow, while one of them dies without a word.

import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Admission, excess } from '../../out/examples/fleet/bound.js';
import type { StoreServer } from '../../out/examples/fleet/server.js';
import { REAL_TIME } from '../support/real-time.js';
import { NO_SERVER, sleep, startServer } from './support/store.js';

const NODE = fileURLToPath(new URL('support/node-process.mjs', import.meta.url));
const RATE = 200;
const BURST = 100;
const CLOCKS = [
  { which: 'node-redis', pace: 1.001, offset: 300 },
  { which: 'ioredis', pace: 0.999, offset: -300 },
  { which: 'node-redis', pace: 1, offset: 1e6 },
];

describe.skipIf(NO_SERVER)('three processes', () => {
  let server: StoreServer;
  const nodes: ChildProcess[] = [];
  beforeAll(async () => {
    server = await startServer();
  });
  afterAll(async () => {
    for (const node of nodes) node.kill('SIGKILL');
    await server?.close();
  });

  it('admit what one would', REAL_TIME, async () => {
    const admissions: Admission[] = [];
    for (const clock of CLOCKS) {
      const limit = { rateLimit: RATE, burstLimit: BURST, leaseSeconds: 1, deadlineSeconds: 2 };
      const config = { url: server.url, ...clock, ...limit };
      const node = fork(NODE, [JSON.stringify(config)]);
      node.on('message', ({ at, admitted }: { at: number; admitted?: number }) => {
        if (admitted) admissions.push({ at, cost: admitted });
      });
      nodes.push(node);
    }
    await Promise.all(nodes.map((node) => once(node, 'message')));
    const start = performance.now();
    for (const node of nodes) node.send('go');
    await sleep(1);
    nodes[0]?.kill('SIGKILL');
    await sleep(1.5);
    const seconds = (performance.now() - start) / 1000;
    for (const node of nodes) node.kill('SIGKILL');

    const total = admissions.reduce((sum, { cost }) => sum + cost, 0);
    expect(total).toBeLessThanOrEqual(BURST + RATE * seconds);
    // What the dead one held was lost, and its share is the others' after a second.
    expect(total).toBeGreaterThan(0.7 * RATE * seconds);
    // A report comes some time after what it reports, and of many messages at once.
    expect(excess(admissions, RATE, BURST)).toBeLessThanOrEqual(RATE * 0.2);
  });
});
