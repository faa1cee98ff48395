// How long a snapshot of so many banned peers takes to be saved and loaded, on each engine, by the wall
// clock and by the processor's, which other processes do not stop. Medians of seven runs, in milliseconds.
//
//   node scripts/measure-persist.mjs [offenders]

import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { OrderbookRateLimiter } from '../dist/index.js';
import { loadSnapshot, saveSnapshot } from '../dist/persist/index.js';
import { table } from './tools.mjs';

const RUNS = 7;
const offenders = Number(process.argv[2] ?? 100_000);
const folder = mkdtempSync(join(tmpdir(), 'relay-limiter-measure-'));
const path = join(folder, 'bans.json');

const create = (engine) => new OrderbookRateLimiter({ engine, violationBanThreshold: 0 });

/** Milliseconds by the wall clock, and those that the processor worked. */
async function timed(act) {
  const before = process.cpuUsage();
  const start = performance.now();
  await act();
  const wall = performance.now() - start;
  const { user, system } = process.cpuUsage(before);
  return [wall, (user + system) / 1000];
}

async function measure(engine) {
  const limiter = create(engine);
  for (let n = 0; n < offenders; n += 1) limiter.check(`connection-${n}-0123456789ab`);
  const runs = [];
  for (let run = 0; run < RUNS; run += 1) {
    const save = await timed(() => saveSnapshot(limiter, path));
    const restarted = create(engine);
    const load = await timed(() => loadSnapshot(restarted, path));
    const { length } = restarted.getStatistics().bannedPeers;
    if (length !== offenders) throw new Error(`${length} bans came back`);
    runs.push([...save, ...load]);
  }
  return [engine, ...[0, 1, 2, 3].map((column) => median(runs.map((run) => run[column])))];
}

function median(values) {
  return values.sort((a, b) => a - b)[values.length >> 1].toFixed(0);
}

try {
  const rows = [['engine', 'save', 'processor', 'load', 'processor']];
  for (const engine of ['native', 'js']) rows.push(await measure(engine));
  const megabytes = (statSync(path).size / 1e6).toFixed(1);
  console.log(`${offenders} banned peers, a file of ${megabytes} MB\n\n${table(rows)}`);
} finally {
  rmSync(folder, { recursive: true });
}
