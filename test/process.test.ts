// What only a process of its own shows: its first moments, its threads, its end.

import { describe, expect, test } from 'vitest';
import { ENGINES } from './support/limiters.js';
import { packageCopy, run, runJson } from './support/processes.js';

describe.each(ENGINES)('%s', (engine) => {
  const env = { RELAY_LIMITER_ENGINE: engine };

  test('the first requests of a fresh process are allowed', () => {
    const script = `
      import { DirectConnectionRateLimiter, OrderbookRateLimiter, RateLimiter } from 'relay-limiter';
      const direct = new DirectConnectionRateLimiter();
      console.log(JSON.stringify([
        new OrderbookRateLimiter().check('nick'),
        direct.checkOrderbook('conn'),
        direct.checkMessage('conn'),
        new RateLimiter().check('peer')[0],
      ]));
    `;
    expect(runJson(script, { env })).toEqual([true, true, true, 'allow']);
  });

  test('what onBan throws is an uncaught exception, and the check answers', () => {
    const script = `
      import { OrderbookRateLimiter } from 'relay-limiter';
      process.on('uncaughtException', (error) => console.log(error.message));
      const limiter = new OrderbookRateLimiter({
        violationBanThreshold: 0,
        onBan: () => {
          throw new Error('listener failed');
        },
      });
      console.log(limiter.check('nick'), limiter.isBanned('nick'));
    `;
    expect(run(script, { env }).stdout).toBe('false true\nlistener failed');
  });

  test('a limiter does not keep its process alive', () => {
    const script = `
      import { RateLimiter } from 'relay-limiter';
      globalThis.limiter = new RateLimiter();
      limiter.check('peer');
    `;
    expect(run(script, { env })).toEqual({ status: 0, stdout: '', stderr: '' });
  });

  test('limiters run in worker threads, side by side, and die with them in the middle of a check', () => {
    const script = `
      import { Worker } from 'node:worker_threads';
      import { RateLimiter } from 'relay-limiter';
      const code = \`
        import { parentPort } from 'node:worker_threads';
        import { RateLimiter } from 'relay-limiter';
        const limiter = new RateLimiter({ rateLimit: 1e-6, burstLimit: 1 });
        for (let n = 0; n < 1000; n += 1) limiter.check('peer-' + n);
        parentPort.postMessage([limiter.engine, limiter.getStats().trackedPeers]);
        for (let n = 0; ; n += 1) limiter.check('peer-' + (n % 100000));
      \`;
      const here = new RateLimiter();
      here.check('peer');
      const url = new URL('data:text/javascript,' + encodeURIComponent(code.replaceAll(
        "'relay-limiter'", JSON.stringify(import.meta.resolve('relay-limiter')))));
      const said = [];
      const workers = Array.from({ length: 4 }, () => new Worker(url));
      await Promise.all(workers.map((worker) => new Promise((resolve, reject) => {
        worker.once('error', reject);
        worker.once('message', (message) => {
          said.push(message);
          worker.terminate().then(resolve);
        });
      })));
      console.log(JSON.stringify([said, here.getStats().trackedPeers]));
    `;
    expect(runJson(script, { env })).toEqual([Array(4).fill([engine, 1000]), 1]);
  });

  test('limiters that nobody holds any more are collected, and their bound calls are safe', () => {
    const script = `
      import { RateLimiter } from 'relay-limiter';
      const limiters = [];
      const peers = [];
      function create(n) {
        const limiter = new RateLimiter({ rateLimit: 1e-6, burstLimit: 1 });
        for (let k = 0; k < 300; k += 1) limiter.check('peer-' + k);
        if (n % 50 === 0) peers.push(limiter.open('peer-0'));
        limiters.push(new WeakRef(limiter));
      }
      for (let n = 0; n < 200; n += 1) create(n);
      let collected = 0;
      for (let n = 0; n < 100 && collected < 190; n += 1) {
        await new Promise((resolve) => setImmediate(resolve));
        globalThis.gc();
        collected = limiters.filter((limiter) => limiter.deref() === undefined).length;
      }
      console.log(JSON.stringify([collected, peers.map((peer) => peer.check()[0])]));
    `;
    const [collected, answers] = runJson(script, { env, flags: ['--expose-gc'] }) as unknown[];
    // All but the four of the peers, and perhaps the last one made.
    expect(collected).toBeGreaterThanOrEqual(190);
    expect(answers).toEqual(Array(4).fill('delay'));
  });
});

test('two copies of the package, of two versions, work side by side in one process', () => {
  const copy = packageCopy();
  try {
    copy.copy('build/Release/relay_limiter.node', 'build/Release/relay_limiter.node');
    const script = `
      import * as one from 'relay-limiter';
      import * as two from ${JSON.stringify(`file://${copy.folder}/dist/index.js`)};
      const limiters = [one, two].map((copy) => new copy.RateLimiter({ engine: 'native', rateLimit: 1, burstLimit: 1 }));
      for (const limiter of limiters) limiter.check('peer');
      limiters[0].removePeer('peer');
      console.log(JSON.stringify(limiters.map((limiter) => limiter.getStats().trackedPeers)));
    `;
    expect(runJson(script)).toEqual([0, 1]);
  } finally {
    copy.remove();
  }
});
