// Limiters in threads that are ended, in processes that end themselves, and by the thousand: each test
// in a process of its own.

import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ENGINES } from './support/limiters.js';
import { packageCopy, ROOT, run, runJson } from './support/processes.js';

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

/** Threads that are ended in the middle of something, three at a time. */
const endings = (workerData: object) =>
  threads(`
    const url = import.meta.resolve('relay-limiter');
    let ended = 0;
    for (let wave = 0; wave < 5; wave += 1) {
      await Promise.all([0, 1, 2].map(async (n) => {
        const { worker } = await start(url, ${JSON.stringify(workerData)});
        await new Promise((resolve) => setTimeout(resolve, wave + n));
        await worker.terminate();
        ended += 1;
      }));
    }
    console.log(JSON.stringify(ended));
  `);

describe.each(ENGINES)('%s', (engine) => {
  const env = { RELAY_LIMITER_ENGINE: engine };

  test.each(['check', 'snapshot'])('threads are ended in the middle of a %s', (endedIn) => {
    expect(runJson(endings({ endedIn }), { env })).toBe(15);
  });

  test('ten threads at once, on two copies of the package', () => {
    const copy = packageCopy();
    copy.copy('build/Release/relay_limiter.node', 'build/Release/relay_limiter.node');
    try {
      const script = threads(`
        const urls = [import.meta.resolve('relay-limiter'), 'file://${copy.folder}/dist/index.js'];
        const started = await Promise.all(Array.from({ length: 10 }, (_, n) => start(urls[n % 2])));
        await Promise.all(started.map(({ worker }) => worker.terminate()));
        console.log(JSON.stringify(started.map(({ engine }) => engine)));
      `);
      expect(runJson(script, { env })).toEqual(Array(10).fill(engine));
    } finally {
      copy.remove();
    }
  });

  test('thousands of limiters come and go, and resident memory stays', () => {
    const script = `
      import * as library from 'relay-limiter';
      import { create, use } from ${LIMITERS};
      const turn = () => new Promise((resolve) => setImmediate(resolve));
      // The most that is resident while so many sets of three come and go.
      async function most(sets) {
        let bytes = 0;
        for (let n = 0; n < sets; n += 1) {
          use(create(library));
          if (n % 40 !== 0) continue;
          await turn();
          globalThis.gc();
          bytes = Math.max(bytes, process.memoryUsage.rss());
        }
        return bytes;
      }
      // The process grows by 6 MB before it has been everywhere, and by 1 MB from then on.
      await most(500);
      const first = await most(150);
      await most(150);
      console.log(JSON.stringify([first, await most(150)]));
    `;
    const [first, last] = runJson(script, { env, flags: ['--expose-gc'] }) as [number, number];
    // Three hundred sets lie between: were one in ten kept, it would be 8 MB more.
    expect(last - first).toBeLessThan(5e6);
  });

  test.each([
    ['a clock', 'clock: () => process.exit(7)', "limiter.check('peer')"],
    ['onBan', 'onBan: () => process.exit(7)', "limiter.check('peer')"],
    ['a cleanup', 'cleanup: { everySeconds: 0.02 }, clock: () => process.exit(7)', ''],
  ])('the process may end in the middle of %s', (_, option, act) => {
    const script = (where: string) => `
      import { isMainThread, Worker } from 'node:worker_threads';
      import { OrderbookRateLimiter } from '${where}';
      const limiter = new OrderbookRateLimiter({ violationBanThreshold: 0, ${option} });
      setInterval(() => limiter, 1000);
      ${act};
    `;
    const ended = { status: 7, stdout: '', stderr: '' };
    expect(run(script('relay-limiter'), { env })).toEqual(ended);
    // In a thread it is the thread that ends.
    const inThread = `
      import { Worker } from 'node:worker_threads';
      const url = import.meta.resolve('relay-limiter');
      const code = ${JSON.stringify(script('URL'))}.replace('URL', url);
      const worker = new Worker(new URL('data:text/javascript,' + encodeURIComponent(code)));
      worker.once('exit', (code) => console.log(code));
    `;
    expect(run(inThread, { env })).toEqual({ status: 0, stdout: '7', stderr: '' });
  });
});

test('threads are ended as they load the addon', () => {
  const addon = join(ROOT, 'build/Release/relay_limiter.node');
  const env = { RELAY_LIMITER_ENGINE: 'native' };
  expect(runJson(endings({ endedIn: 'load', addon }), { env })).toBe(15);
});
