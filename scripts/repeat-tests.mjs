// Runs the tests repeatedly under the conditions of a busy machine, and lists those that failed: no test may depend on the
// machine's speed. Under `stalls` it runs only the real tests: unit tests have no real time.
//
//   npm run test:repeat                        20 runs under each of four conditions
//   npm run test:repeat -- --runs 5            5 runs under each condition
//   npm run test:repeat -- --condition busy    only this condition; may be given more than once
//
// Exit code 1 if a run failed, 2 for wrong flags. The outputs of failed runs are kept.

import { fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { fail, root, table } from './tools.mjs';

const SCRIPT = fileURLToPath(import.meta.url);
const MAX_RUN_MS = 60 * 60_000;
/** Signals that end the script and the tests that it runs. */
const END_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'];

const TESTS = ['npm', 'test', '--'];
const { NODE_OPTIONS = '' } = process.env;

/**
 * Of each condition: its description, the number of processes that keep the cores busy, the command that runs the tests, and
 * environment variables.
 */
const CONDITIONS = {
  busy: {
    words: 'every core busy with other work',
    loops: availableParallelism(),
    command: TESTS,
  },
  'one-core': { words: 'taskset -c 0', command: ['taskset', '-c', '0', ...TESTS] },
  nice: { words: 'nice -n 19', command: ['nice', '-n', '19', ...TESTS] },
  stalls: {
    words: 'every process of Node stands still at random',
    command: [...TESTS, '.real.test.ts'],
    env: { NODE_OPTIONS: `${NODE_OPTIONS} --import=${new URL('stalls.mjs', import.meta.url)}` },
  },
};

/** Keeps one core busy until the parent process ends, even if it is killed. */
function keepBusy() {
  const end = performance.now() + MAX_RUN_MS;
  process.on('disconnect', () => process.exit());
  const work = () => {
    const pause = performance.now() + 20;
    while (performance.now() < pause);
    if (performance.now() < end) setImmediate(work);
    else process.exit();
  };
  work();
}

function readFlags() {
  try {
    const { values } = parseArgs({
      options: {
        runs: { type: 'string', default: '20' },
        condition: { type: 'string', multiple: true, default: Object.keys(CONDITIONS) },
      },
    });
    const runs = Number(values.runs);
    if (!Number.isSafeInteger(runs) || runs < 1) {
      throw new Error(`--runs must be a whole number of at least 1, got ${values.runs}`);
    }
    const unknown = values.condition.find((name) => !Object.hasOwn(CONDITIONS, name));
    if (unknown !== undefined) {
      const names = Object.keys(CONDITIONS).join(', ');
      throw new Error(`--condition must be one of ${names}, got ${unknown}`);
    }
    return { runs, conditions: values.condition };
  } catch (error) {
    console.error(`repeat-tests: ${error.message}`);
    return process.exit(2);
  }
}

function endGroup({ pid }) {
  try {
    process.kill(-pid, 'SIGTERM');
  } catch (error) {
    // The group has already ended.
    if (error.code !== 'ESRCH') throw error;
  }
}

/** Runs the tests once. Returns its time in seconds and the list of failures, which is empty if the run passed. */
async function runTests({ loops = 0, command, env }, log, report) {
  const busy = Array.from({ length: loops }, () => fork(SCRIPT, ['--keep-busy']));
  const start = performance.now();
  const output = openSync(log, 'w');
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${report}`];
  const [program, ...args] = [...command, ...reporters];
  const child = spawn(program, args, {
    cwd: root,
    stdio: ['ignore', output, output],
    env: { ...process.env, NO_COLOR: '1', ...env },
    // A separate process group, so that npm and all its child processes can be ended together.
    detached: true,
  });
  const end = () => endGroup(child);
  const timer = setTimeout(end, MAX_RUN_MS);
  for (const signal of END_SIGNALS) process.on(signal, end);
  try {
    const [code, signal] = await once(child, 'close');
    const seconds = Math.round((performance.now() - start) / 1000);
    return { seconds, failed: code === 0 ? [] : failuresIn(report, code ?? signal) };
  } finally {
    clearTimeout(timer);
    for (const signal of END_SIGNALS) process.off(signal, end);
    for (const loop of busy) loop.kill();
    closeSync(output);
  }
}

/**
 * Returns the names of the failed tests; for a file that could not run, the file's name; for an error outside of every
 * test, the exit code.
 */
function failuresIn(report, code) {
  let files;
  try {
    files = JSON.parse(readFileSync(report, 'utf8')).testResults;
  } catch {
    return [`no test was run: exit ${code}`];
  }
  const failed = files.flatMap(({ name, status, assertionResults }) => {
    const file = name.replace(root, '');
    const tests = assertionResults.filter((test) => test.status === 'failed');
    if (tests.length === 0 && status === 'failed') return [file];
    return tests.map(({ fullName }) => `${file}: ${fullName}`);
  });
  return failed.length > 0 ? failed : [`an error outside of every test: exit ${code}`];
}

async function main() {
  const { runs, conditions } = readFlags();
  let interruption;
  for (const signal of END_SIGNALS) {
    process.on(signal, () => {
      interruption ??= signal;
    });
  }
  const folder = mkdtempSync(join(tmpdir(), 'relay-limiter-repeat-'));
  const summary = [['condition', 'what it is', 'passed', 'fastest', 'slowest']];
  const failures = new Map();
  for (const name of conditions) {
    const condition = CONDITIONS[name];
    const times = [];
    let passed = 0;
    for (let run = 1; run <= runs; run += 1) {
      const log = join(folder, `${name}-${run}.log`);
      const report = join(folder, 'report.json');
      rmSync(report, { force: true });
      const { seconds, failed } = await runTests(condition, log, report);
      if (interruption !== undefined) fail(`repeat-tests: ended by ${interruption}`);
      times.push(seconds);
      const outcome = failed.length === 0 ? 'passed' : `FAILED: ${failed.length}, see ${log}`;
      const count = `${run}`.padStart(`${runs}`.length);
      console.log(
        `${name.padEnd(8)}  ${count} of ${runs}  ${`${seconds}`.padStart(4)} s  ${outcome}`,
      );
      if (failed.length === 0) {
        passed += 1;
        rmSync(log);
      }
      for (const test of failed) {
        failures.set(test, [...(failures.get(test) ?? []), `${name} ${run}`]);
      }
    }
    summary.push([
      ...[name, condition.words, `${passed} of ${runs}`],
      ...[`${Math.min(...times)} s`, `${Math.max(...times)} s`],
    ]);
  }
  console.log(`\n${table(summary)}`);
  if (failures.size === 0) {
    rmSync(folder, { recursive: true });
    return;
  }
  const named = [...failures].map(([test, where]) => `${test}\n    in ${where.join(', ')}`);
  fail(`\nFailed:\n${named.join('\n')}`);
}

if (process.argv[2] === '--keep-busy') keepBusy();
else await main().catch((error) => fail(`repeat-tests: ${error.message}`));
