// Limiters in threads that are ended, in processes that end themselves, and by the thousand: each test
// in a process of its own.

import { describe, expect, test } from 'vitest';
import { ENGINES } from './support/limiters.js';
import { packageCopy, run, runJson } from './support/processes.js';

const LIMITERS = JSON.stringify(new URL('support/lifecycles.mjs', import.meta.url).href);

describe.each(ENGINES)('%s', (engine) => {
  const env = { RELAY_LIMITER_ENGINE: engine };

  /** A script that can start threads; each goes on until it is ended. */
  const threads = (script: string) => `
    import { Worker } from 'node:worker_threads';
    async function start(library) {
      const worker = new Worker(new URL(${LIMITERS}), { workerData: { library }, execArgv: [] });
      const engine = await new Promise((resolve, reject) => {
        worker.once('message', resolve).once('error', reject);
      });
      return { worker, engine };
    }
    ${script}
  `;

  test('threads are ended in the middle of a check, one after another', () => {
    const script = threads(`
      const url = import.meta.resolve('relay-limiter');
      let ended = 0;
      for (let wave = 0; wave < 5; wave += 1) {
        await Promise.all([0, 1, 2, 3].map(async (n) => {
          const { worker } = await start(url);
          await new Promise((resolve) => setTimeout(resolve, n));
          await worker.terminate();
          ended += 1;
        }));
      }
      console.log(JSON.stringify(ended));
    `);
    expect(runJson(script, { env })).toBe(20);
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
      await most(200);
      console.log(JSON.stringify([await most(200), await most(200), await most(200)]));
    `;
    const [first, , last] = runJson(script, { env, flags: ['--expose-gc'] }) as [number, 0, number];
    // Four hundred sets of 100 KB and more lie between: a leak of a tenth of them would show.
    expect(last - first).toBeLessThan(6e6);
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
