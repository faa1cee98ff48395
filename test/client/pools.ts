// Shared by the tests of UpstreamPool: pools on the virtual clock of the fake timers, and requests to their nodes.

import { type NodeFile, UpstreamPool, type UpstreamPoolOptions } from 'relay-limiter/client';
import { expect } from 'vitest';
import { seeded } from '../support/random.js';
import { now, said } from './support.js';

/** Returns a pool of nodes with those quotas, on the virtual clock of the fake timers. */
export function poolOf(
  quotas: Record<string, [quota: number, seconds: number]>,
  options: UpstreamPoolOptions = {},
): UpstreamPool {
  const file: NodeFile = Object.fromEntries(
    Object.entries(quotas).map(([host, [v, w]]) => [host, { policies: [{ w, v }] }]),
  );
  return new UpstreamPool(file, {
    algorithm: 'sliding',
    clock: now,
    wallClock: now,
    random: seeded(1),
    ...options,
  });
}

export const MANY: [number, number] = [1000, 1];
export const node = (pool: UpstreamPool, host: string) => {
  const state = pool.state().nodes[host];
  if (state === undefined) throw new Error(`no node ${host}`);
  return state;
};

/** Sends one request to `host`, which is answered after `seconds`. */
export async function request(pool: UpstreamPool, host: string, seconds: number, status = 200) {
  const others = pool.nodes.filter((name) => name !== host);
  const grant = await pool.acquire({ exclude: others });
  expect(grant.node).toBe(host);
  pool.update(said(), status, { lease: grant.lease, latencySeconds: seconds });
  grant.lease.release();
}

/** Sends enough requests to make the average latency stable. */
export async function learn(pool: UpstreamPool, host: string, seconds: number): Promise<void> {
  for (let times = 0; times < 5; times += 1) await request(pool, host, seconds);
}

export async function failing(pool: UpstreamPool, host: string, times: number): Promise<void> {
  const others = pool.nodes.filter((name) => name !== host);
  for (let at = 0; at < times; at += 1) {
    const { node, lease } = await pool.acquire({ exclude: others });
    expect(node).toBe(host);
    pool.fail(lease);
  }
}

/** Acquires `times` leases without an end, and returns how many went to each node. */
export async function spread(pool: UpstreamPool, times: number): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (let at = 0; at < times; at += 1) {
    const { node } = await pool.acquire();
    counts[node] = (counts[node] ?? 0) + 1;
  }
  return counts;
}
