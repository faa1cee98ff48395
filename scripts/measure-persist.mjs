// Measures snapshot() and restore() of banned peers on each engine, and saving and loading such a snapshot as a file, on
// Linux: the wall-clock time, of the file also as a multiple of snapshot() in the same run. Of the file also the processor
// time, which other processes affect least; and the longest step, the processor time of the main thread between two turns
// of the event loop. Prints medians and ranges of several runs, in milliseconds.
//
//   node scripts/measure-persist.mjs [offenders] [runs]

import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { OrderbookRateLimiter } from '../dist/index.js';
import { loadSnapshot, saveSnapshot } from '../dist/persist/index.js';
import { table } from './tools.mjs';

const offenders = Number(process.argv[2] ?? 100_000);
const runCount = Number(process.argv[3] ?? 7);
const folder = mkdtempSync(join(tmpdir(), 'relay-limiter-measure-'));
const path = join(folder, 'bans.json');

const create = (engine) => new OrderbookRateLimiter({ engine, violationBanThreshold: 0 });

/** The processor time of the main thread so far, in milliseconds. */
const threadTime = () => Number(readFileSync('/proc/self/schedstat', 'utf8').split(' ')[0]) / 1e6;

/** Returns [wall-clock time, processor time, longest step] of `act`, in milliseconds. */
async function timed(act) {
  let last = threadTime();
  let longest = 0;
  let isDone = false;
  const turn = () => {
    const now = threadTime();
    longest = Math.max(longest, now - last);
    last = now;
    if (!isDone) setImmediate(turn);
  };
  setImmediate(turn);
  const before = process.cpuUsage();
  const start = performance.now();
  await act();
  const wall = performance.now() - start;
  const { user, system } = process.cpuUsage(before);
  isDone = true;
  await nextTurn();
  return [wall, (user + system) / 1000, longest];
}

async function measure(engine) {
  const limiter = create(engine);
  for (let n = 0; n < offenders; n += 1) limiter.check(`connection-${n}-0123456789ab`);
  const runs = [];
  for (let run = 0; run < runCount; run += 1) {
    let taken;
    const snapshot = await timed(() => {
      taken = limiter.snapshot();
    });
    const restore = await timed(() => create(engine).restore(taken));
    taken = undefined;
    const save = await timed(() => saveSnapshot(limiter, path));
    const restarted = create(engine);
    const load = await timed(() => loadSnapshot(restarted, path));
    const { length } = restarted.getStatistics().bannedPeers;
    if (length !== offenders) throw new Error(`${length} of ${offenders} bans were restored`);
    const ratios = [save, load].map(([wall]) => wall / snapshot[0]);
    runs.push([snapshot[0], restore[0], ...save, ratios[0], ...load, ratios[1]]);
  }
  return [engine, ...runs[0].map((_, column) => spread(runs.map((run) => run[column])))];
}

/** The median and the range, with a digit after the point if the median is small. */
function spread(values) {
  values.sort((a, b) => a - b);
  const median = values[values.length >> 1];
  const [text, ...range] = [median, values[0], values.at(-1)].map((value) =>
    value.toFixed(median < 10 ? 1 : 0),
  );
  return `${text} (${range.join('-')})`;
}

try {
  const parts = ['wall', 'processor', 'longest step', 'ratio'];
  const columns = ['save', 'load'].flatMap((call) => parts.map((part) => `${call}, ${part}`));
  const rows = [['engine', 'snapshot()', 'restore()', ...columns]];
  for (const engine of ['native', 'js']) rows.push(await measure(engine));
  const megabytes = (statSync(path).size / 1e6).toFixed(1);
  console.log(`${offenders} banned peers, a file of ${megabytes} MB\n\n${table(rows)}`);
} finally {
  rmSync(folder, { recursive: true });
}
