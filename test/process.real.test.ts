// What only a process of its own shows: its first moments, its threads, its end.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { VERSION } from '../dist/version.js';
import { ENGINES } from './support/limiters.js';
import { packageCopy, ROOT, run, runJson } from './support/processes.js';

const BINARY = 'build/Release/relay_limiter.node';

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
    const other = VERSION.replace(/^./, '9');
    const binary = readFileSync(join(ROOT, BINARY)).toString('latin1');
    copy.write(BINARY, Buffer.from(binary.replaceAll(`${VERSION}\0`, `${other}\0`), 'latin1'));
    copy.write('dist/version.js', `export const VERSION = '${other}';`);
    const script = `
      import * as one from 'relay-limiter';
      import * as two from ${JSON.stringify(`file://${copy.folder}/dist/index.js`)};
      const limiters = [one, two].map((copy) => new copy.RateLimiter({ engine: 'native', rateLimit: 1, burstLimit: 1 }));
      for (const limiter of limiters) limiter.check('peer');
      limiters[0].removePeer('peer');
      console.log(JSON.stringify([
        limiters.map((limiter) => limiter.getStats().trackedPeers),
        two.engineInfo().version,
      ]));
    `;
    expect(runJson(script)).toEqual([[0, 1], other]);
  } finally {
    copy.remove();
  }
});

test.each(['native', 'js'])('engine %s gives back what a flood took', (engine) => {
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
      for (let i = 0; i < 100 && taken() - before > bytes; i += 1) await setTimeout(20);
      return taken() - before <= bytes;
    };
    for (let n = 0; n < 190_000; n += 1) limiter.removePeer('peer-' + n);
    const tail = await comesDownTo(flood / 8);
    limiter.cleanupOldPeers(-1);
    console.log(JSON.stringify([flood, tail, await comesDownTo(flood / 100)]));
  `;
  const [flood, ...down] = runJson(script, { flags: ['--expose-gc'] }) as [
    number,
    boolean,
    boolean,
  ];
  // Records of 32 bytes, or two doubles.
  expect(flood).toBeGreaterThan(200_000 * 16);
  expect(down).toEqual([true, true]);
});

describe('the native engine', () => {
  const env = { RELAY_LIMITER_ENGINE: 'native' };

  test('hashes each limiter under a secret of its own', () => {
    const script = `
      import crypto from 'node:crypto';
      import { syncBuiltinESMExports } from 'node:module';
      const { randomFillSync } = crypto;
      const secrets = [];
      crypto.randomFillSync = (words) => {
        randomFillSync(words);
        secrets.push([...words].join());
        return words;
      };
      syncBuiltinESMExports();
      const { DirectConnectionRateLimiter, OrderbookRateLimiter, RateLimiter } = await import('relay-limiter');
      for (const Limiter of [RateLimiter, RateLimiter, OrderbookRateLimiter, DirectConnectionRateLimiter]) {
        new Limiter();
      }
      console.log(JSON.stringify([secrets.length, new Set(secrets).size, secrets.includes('0,0')]));
    `;
    expect(runJson(script, { env })).toEqual([4, 4, false]);
  });

  test.each([4_000, 20_000])(
    'tells V8 how much memory its tables hold, so that dropped limiters of %i are collected',
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
      const { made, most } = runJson(script, { env }) as Record<'made' | 'most', number>;
      expect(most).toBeLessThan(made / 2);
    },
  );

  test('refuses to be made of nonsense, whoever gets hold of its classes', () => {
    const script = `
      import { RateLimiter } from 'relay-limiter';
      const { core } = new RateLimiter();
      const secret = new BigUint64Array(2);
      const secrets = [5, new BigUint64Array(1), new Uint8Array(16), secret];
      const seats = [5, new Int32Array(2), new Uint32Array(3)];
      const said = [[], [{}], ...secrets.map((s) => [{}, s]), ...seats.map((s) => [{}, secret, s])].map((given) => {
        try {
          new core.constructor(...given);
        } catch (error) {
          return error.name;
        }
      });
      console.log(JSON.stringify(said));
    `;
    expect(runJson(script, { env })).toEqual(Array(9).fill('TypeError'));
  });

  // prlimit, which takes memory from a running process, is Linux's.
  test.skipIf(process.platform !== 'linux')('survives that there is no memory', () => {
    const script = `
      import { execFileSync } from 'node:child_process';
      import { readFileSync } from 'node:fs';
      import { RateLimiter } from 'relay-limiter';
      const limiter = new RateLimiter({ rateLimit: 1e-6, burstLimit: 1 });
      limiter.check('peer');
      const huge = Buffer.alloc(2 ** 28, 'x').toString('latin1');
      const pages = Number(readFileSync('/proc/self/statm', 'utf8').split(' ')[0]);
      execFileSync('prlimit', ['--pid', String(process.pid), '--as=' + (pages * 4096 + 2 ** 28)]);
      const said = [];
      try {
        limiter.check(huge);
      } catch (error) {
        said.push(error.code, error.message);
      }
      said.push(limiter.check('peer')[0], limiter.check('other')[0], limiter.getStats().trackedPeers);
      console.log(JSON.stringify(said));
    `;
    const message = 'no memory for one more peer';
    expect(runJson(script, { env })).toEqual(['ERR_LIMITER_MEMORY', message, 'delay', 'allow', 2]);
  });
});

test.each(['native', 'js'])('a group of engine %s goes on where a Map takes no more', (engine) => {
  const script = `
    import { RateLimiter } from 'relay-limiter';
    const limiter = new RateLimiter({ engine: '${engine}' });
    const group = limiter.group(['ann', 'bob']);
    const { set } = Map.prototype;
    Map.prototype.set = function (key, value) {
      if (key === 'too-many') throw new RangeError('Map maximum size exceeded');
      return set.call(this, key, value);
    };
    let code;
    try {
      group.add('too-many');
    } catch (error) {
      code = error.code;
    }
    console.log(JSON.stringify([code, group.size, [...group.keys()], [...group.check()]]));
  `;
  expect(runJson(script)).toEqual(['ERR_LIMITER_MEMORY', 2, ['ann', 'bob'], [0, 0]]);
});

test('a ban that is over ends where a Map takes no more', () => {
  const script = `
    import { OrderbookRateLimiter } from 'relay-limiter';
    let now = 0;
    const clock = () => now;
    const limiter = new OrderbookRateLimiter({ engine: 'js', clock, violationBanThreshold: 0, banDuration: 5 });
    const began = limiter.check('peer');
    now = 6;
    Map.prototype.set = () => {
      throw new RangeError('Map maximum size exceeded');
    };
    console.log(JSON.stringify([began, limiter.isBanned('peer'), limiter.getViolationCount('peer')]));
  `;
  expect(runJson(script)).toEqual([false, false, 0]);
});

test('without hrtime, as in a browser, time is that of performance.now', () => {
  const script = `
    const { hrtime } = process;
    process.hrtime = undefined;
    const { TokenBucket } = await import('relay-limiter');
    process.hrtime = hrtime;
    const before = performance.now() / 1000;
    const bucket = new TokenBucket(1, 1);
    const after = performance.now() / 1000;
    console.log(JSON.stringify(before <= bucket.lastRefill && bucket.lastRefill <= after));
  `;
  expect(runJson(script)).toBe(true);
});

test('the TypeScript engine says so where a Map takes no more', () => {
  const script = `
    import { DirectConnectionRateLimiter, OrderbookRateLimiter, RateLimiter } from 'relay-limiter';
    const calls = [
      [new RateLimiter(), (limiter) => limiter.check('peer')],
      [new OrderbookRateLimiter(), (limiter) => limiter.check('peer')],
      [new DirectConnectionRateLimiter(), (limiter) => limiter.checkMessage('peer')],
      [new DirectConnectionRateLimiter(), (limiter) => limiter.checkOrderbook('peer')],
    ];
    const { set } = Map.prototype;
    const said = calls.map(([limiter, call]) => {
      Map.prototype.set = () => {
        throw new RangeError('Map maximum size exceeded');
      };
      try {
        call(limiter);
      } catch (error) {
        Map.prototype.set = set;
        return [error.code, error.cause.message, limiter.getViolationCount('peer')];
      }
    });
    console.log(JSON.stringify(said));
  `;
  const error = ['ERR_LIMITER_MEMORY', 'Map maximum size exceeded', 0];
  expect(runJson(script, { env: { RELAY_LIMITER_ENGINE: 'js' } })).toEqual(Array(4).fill(error));
});
