// Several processes with one store. Their clocks differ by minutes and run a thousandth too fast or too slow, and one
// of the processes is killed.

import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Admission, excess } from '../../out/examples/fleet/bound.js';
import type { StoreServer } from '../../out/examples/fleet/server.js';
import { NO_SERVER, startServer, until } from './support/store.js';

const NODE = fileURLToPath(new URL('support/node-process.mjs', import.meta.url));
const LIMIT = {
  rateLimit: 200,
  burstLimit: 100,
  leaseSeconds: 2,
  deadlineSeconds: 1,
  onStoreFailure: 'closed',
};
const CLOCKS = [
  { which: 'node-redis', pace: 1.001, offset: 300 },
  { which: 'ioredis', pace: 0.999, offset: -300 },
  { which: 'node-redis', pace: 1, offset: 1e6 },
];
const ROUNDING = 1e-6;

interface Report {
  from: number;
  at: number;
  admitted?: number;
}

describe.skipIf(NO_SERVER)('SharedRateLimiter in three processes', () => {
  let server: StoreServer;
  const nodes: ChildProcess[] = [];
  beforeAll(async () => {
    server = await startServer();
  });
  afterAll(async () => {
    for (const node of nodes) node.kill('SIGKILL');
    await server?.close();
  });

  it('admits together no more than the bound, and goes on if one process is killed', async () => {
    const admissions: (Admission & { node: number })[] = [];
    CLOCKS.forEach((clock, at) => {
      const node = fork(NODE, [JSON.stringify({ url: server.url, ...clock, ...LIMIT })]);
      node.on('message', (report: Report) => {
        const { from, at: to, admitted = 0 } = report;
        if (admitted > 0) admissions.push({ node: at, from, at: to, cost: admitted });
      });
      nodes.push(node);
    });
    await Promise.all(nodes.map((node) => once(node, 'message')));
    for (const node of nodes) node.send('go');
    const untilAdmittedBy = (numbers: readonly number[], after: number) => {
      return until(() => {
        const later = admissions.slice(after);
        return numbers.every((number) => later.some(({ node }) => node === number));
      });
    };
    await untilAdmittedBy([0, 1, 2], 0);
    nodes[0]?.kill('SIGKILL');
    // The killed process's leased tokens are lost until its leases end; then the others get them.
    await untilAdmittedBy([1, 2], admissions.length);
    const before = admissions.length;
    await until(() => {
      const later = admissions.slice(before).reduce((sum, { cost }) => sum + cost, 0);
      return later > 2 * LIMIT.burstLimit;
    });
    for (const node of nodes) node.kill('SIGKILL');
    expect(excess(admissions, LIMIT.rateLimit, LIMIT.burstLimit)).toBeLessThanOrEqual(ROUNDING);
  });
});
