// Limiters in threads that are ended, and in processes that end themselves: each test in a process of its own.

import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ENGINES, TESTS_NATIVE } from './support/limiters.js';
import { packageCopy, ROOT, run, runJson } from './support/processes.js';

const BINARY = 'build/Release/relay_limiter.node';
const LIMITERS = JSON.stringify(new URL('support/lifecycles.mjs', import.meta.url).href);

/** A script that can start threads; each goes on until it is ended. */
const threads = (script: string) => `
  import { Worker } from 'node:worker_threads';
  async function start(library, workerData) {
    const worker = new Worker(new URL(${LIMITERS}), { workerData: { library, ...workerData }, execArgv: [] });
    const engine = await new Promise((resolve, reject) => {
      worker.once('message', resolve).once('error', reject);
    });
    return { worker, engine };
  }
  ${script}
`;

/** Threads that are ended in the middle of something: of what each wave names, three at a time. */
const endings = (waves: readonly string[], data: object = {}) =>
  threads(`
    const url = import.meta.resolve('relay-limiter');
    let ended = 0;
    for (const [wave, endedIn] of ${JSON.stringify(waves)}.entries()) {
      await Promise.all([0, 1, 2].map(async (n) => {
        const { worker } = await start(url, { endedIn, ...${JSON.stringify(data)} });
        await new Promise((resolve) => setTimeout(resolve, wave + n));
        await worker.terminate();
        ended += 1;
      }));
    }
    console.log(JSON.stringify(ended));
  `);

describe.each(ENGINES)('On the %s engine', (engine) => {
  const env = { RELAY_LIMITER_ENGINE: engine };

  test('threads can be terminated during a check and a snapshot', () => {
    expect(runJson(endings(['check', 'snapshot']), { env })).toBe(6);
  });

  test('four threads run at once, on two copies of the package', () => {
    const copy = packageCopy();
    if (engine === 'native') copy.copy(BINARY, BINARY);
    try {
      const script = threads(`
        const urls = [import.meta.resolve('relay-limiter'), 'file://${copy.folder}/dist/index.js'];
        const started = await Promise.all([0, 1, 2, 3].map((n) => start(urls[n % 2])));
        await Promise.all(started.map(({ worker }) => worker.terminate()));
        console.log(JSON.stringify(started.map(({ engine }) => engine)));
      `);
      expect(runJson(script, { env })).toEqual(Array(4).fill(engine));
    } finally {
      copy.remove();
    }
  });

  const EXITS = [
    ['a clock', 'clock: () => process.exit(7)', "limiter.check('peer')"],
    ['onBan', 'onBan: () => process.exit(7)', "limiter.check('peer')"],
    ['a cleanup', 'cleanup: { everySeconds: 0.02 }, clock: () => process.exit(7)', ''],
  ] as const;
  const exiting = (library: string, option: string, act: string) => `
    import { OrderbookRateLimiter } from '${library}';
    const limiter = new OrderbookRateLimiter({ violationBanThreshold: 0, ${option} });
    setInterval(() => limiter, 1000);
    ${act};
  `;

  test.each(EXITS)('the process can exit during %s', (_, option, act) => {
    const ended = { status: 7, stdout: '', stderr: '' };
    expect(run(exiting('relay-limiter', option, act), { env })).toEqual(ended);
  });

  test('a thread can exit during a clock, onBan and a cleanup', () => {
    const codes = EXITS.map(([_, option, act]) => exiting('URL', option, act));
    const script = `
      import { once } from 'node:events';
      import { Worker } from 'node:worker_threads';
      const url = import.meta.resolve('relay-limiter');
      const exits = ${JSON.stringify(codes)}.map((code) => {
        const data = encodeURIComponent(code.replace('URL', url));
        return once(new Worker(new URL('data:text/javascript,' + data)), 'exit');
      });
      console.log(JSON.stringify(await Promise.all(exits)));
    `;
    expect(runJson(script, { env })).toEqual([[7], [7], [7]]);
  });
});

test.runIf(TESTS_NATIVE)('Threads can be terminated while they load the addon', () => {
  const addon = join(ROOT, BINARY);
  const env = { RELAY_LIMITER_ENGINE: 'native' };
  expect(runJson(endings(['load', 'load'], { addon }), { env })).toBe(6);
});
