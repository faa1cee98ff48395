// Measures saving and loading a snapshot of banned peers on each engine: wall-clock time, processor time (which other
// processes do not affect), and the longest delay of the event loop. Prints medians in milliseconds.
//
//   node scripts/measure-persist.mjs [offenders] [runs]

import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout } from 'node:timers/promises';
import { OrderbookRateLimiter } from '../dist/index.js';
import { loadSnapshot, saveSnapshot } from '../dist/persist/index.js';
import { table } from './tools.mjs';

const offenders = Number(process.argv[2] ?? 100_000);
const runCount = Number(process.argv[3] ?? 7);
const folder = mkdtempSync(join(tmpdir(), 'relay-limiter-measure-'));
const path = join(folder, 'bans.json');

const create = (engine) => new OrderbookRateLimiter({ engine, violationBanThreshold: 0 });

/** Returns [wall-clock time, processor time, longest event-loop delay] of `act`, in milliseconds. */
async function timed(act) {
  const delays = monitorEventLoopDelay({ resolution: 1 });
  delays.enable();
  await setTimeout(5);
  const before = process.cpuUsage();
  const start = performance.now();
  await act();
  const wall = performance.now() - start;
  const { user, system } = process.cpuUsage(before);
  await setTimeout(5);
  delays.disable();
  return [wall, (user + system) / 1000, delays.max / 1e6];
}

async function measure(engine) {
  const limiter = create(engine);
  for (let n = 0; n < offenders; n += 1) limiter.check(`connection-${n}-0123456789ab`);
  const runs = [];
  for (let run = 0; run < runCount; run += 1) {
    const snapshot = await timed(() => limiter.snapshot());
    const save = await timed(() => saveSnapshot(limiter, path));
    const restarted = create(engine);
    const load = await timed(() => loadSnapshot(restarted, path));
    const { length } = restarted.getStatistics().bannedPeers;
    if (length !== offenders) throw new Error(`${length} of ${offenders} bans were restored`);
    runs.push([snapshot[0], ...save, ...load]);
  }
  return [engine, ...runs[0].map((_, column) => median(runs.map((run) => run[column])))];
}

function median(values) {
  return values.sort((a, b) => a - b)[values.length >> 1].toFixed(0);
}

try {
  const parts = ['wall', 'processor', 'longest'];
  const columns = ['save', 'load'].flatMap((call) => parts.map((part) => `${call}, ${part}`));
  const rows = [['engine', 'snapshot()', ...columns]];
  for (const engine of ['native', 'js']) rows.push(await measure(engine));
  const megabytes = (statSync(path).size / 1e6).toFixed(1);
  console.log(`${offenders} banned peers, a file of ${megabytes} MB\n\n${table(rows)}`);
} finally {
  rmSync(folder, { recursive: true });
}
