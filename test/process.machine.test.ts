// What limiters leave to the garbage collector and to the system, each test in a process of its own. A bound is
// half of what stays if nothing is freed; normal is less than half of the bound.

import { describe, expect, test } from 'vitest';
import { ENGINES, TESTS_NATIVE } from './support/limiters.js';
import { runJson } from './support/processes.js';

const flags = ['--expose-gc'];

describe.each(ENGINES)('On the %s engine', (engine) => {
  test('unreachable limiters are collected, and their opened peers still work', () => {
    const script = `
      import { RateLimiter } from 'relay-limiter';
      const limiters = [];
      const peers = [];
      function create(n) {
        const limiter = new RateLimiter({ engine: '${engine}', rateLimit: 1e-6, burstLimit: 1 });
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
    const [collected, answers] = runJson(script, { flags }) as unknown[];
    // Normal is 195: all but those of the four peers, and the last one.
    expect(collected).toBeGreaterThan(100);
    expect(answers).toEqual(Array(4).fill('delay'));
  });

  test('the memory of a flood is returned to the system', () => {
    const script = `
      import { setTimeout } from 'node:timers/promises';
      import { RateLimiter } from 'relay-limiter';
      const limiter = new RateLimiter({ engine: '${engine}', maxPeers: Infinity });
      const taken = () => {
        globalThis.gc();
        return limiter.getStats().memoryBytes ?? process.memoryUsage().arrayBuffers;
      };
      const before = taken();
      for (let n = 0; n < 200_000; n += 1) limiter.check('peer-' + n);
      const flood = taken() - before;
      // V8 frees what it has collected in the background, some time later.
      const comesDownTo = async (bytes) => {
        for (let n = 0; n < 500 && taken() - before > bytes; n += 1) await setTimeout(20);
        return taken() - before <= bytes;
      };
      for (let n = 0; n < 190_000; n += 1) limiter.removePeer('peer-' + n);
      const tail = await comesDownTo(flood / 2);
      limiter.cleanupOldPeers(-1);
      console.log(JSON.stringify([flood, tail, await comesDownTo(flood / 10)]));
    `;
    const [flood, ...cameDown] = runJson(script, { flags }) as [number, boolean, boolean];
    // Records of 32 bytes, or two doubles.
    expect(flood).toBeGreaterThan(200_000 * 16);
    expect(cameDown).toEqual([true, true]);
  });
});

describe.runIf(TESTS_NATIVE)('On the native engine', () => {
  test.each([4_000, 20_000])(
    'unreachable limiters with %i peers are collected before they fill the memory',
    (peers) => {
      const script = `
        import { RateLimiter } from 'relay-limiter';
        const keys = Array.from({ length: ${peers} }, (_, n) => 'peer-' + n);
        const before = process.memoryUsage.rss();
        let made = 0;
        let most = 0;
        for (let n = 0; n < ${8_000_000 / peers}; n += 1) {
          const limiter = new RateLimiter();
          for (const key of keys) limiter.check(key);
          made += limiter.getStats().memoryBytes;
          most = Math.max(most, process.memoryUsage.rss() - before);
          if (n % 10 === 0) await new Promise((resolve) => setImmediate(resolve));
        }
        console.log(JSON.stringify({ made, most }));
      `;
      const env = { RELAY_LIMITER_ENGINE: 'native' };
      const { made, most } = runJson(script, { env }) as Record<'made' | 'most', number>;
      expect(most).toBeLessThan(made / 2);
    },
  );
});
