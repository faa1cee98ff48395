// What only a process of its own shows: its first moments, its threads, its end.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { VERSION } from '../dist/common/version.js';
import { ENGINES, TESTS_NATIVE } from './support/limiters.js';
import { packageCopy, ROOT, run, runJson } from './support/processes.js';

const BINARY = 'build/Release/relay_limiter.node';

describe.each(ENGINES)('On the %s engine', (engine) => {
  const env = { RELAY_LIMITER_ENGINE: engine };

  test('the first requests of a fresh process are allowed, and its limiters do not keep it alive', () => {
    const script = `
      import { DirectConnectionRateLimiter, OrderbookRateLimiter, RateLimiter } from 'relay-limiter';
      const direct = new DirectConnectionRateLimiter();
      const books = new OrderbookRateLimiter();
      const messages = new RateLimiter();
      globalThis.limiters = [direct, books, messages];
      console.log(JSON.stringify([
        books.check('nick'),
        direct.checkOrderbook('conn'),
        direct.checkMessage('conn'),
        messages.check('peer')[0],
      ]));
    `;
    const stdout = JSON.stringify([true, true, true, 'allow']);
    expect(run(script, { env })).toEqual({ status: 0, stdout, stderr: '' });
  });

  test('an error of onBan is an uncaught exception, and the check returns its verdict', () => {
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

  test('limiters run in several worker threads, and a thread may end in the middle of a check', () => {
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
});

test.runIf(TESTS_NATIVE)('two versions of the package work in one process', () => {
  const copy = packageCopy();
  try {
    const other = VERSION.replace(/^./, '9');
    const binary = readFileSync(join(ROOT, BINARY)).toString('latin1');
    copy.write(BINARY, Buffer.from(binary.replaceAll(`${VERSION}\0`, `${other}\0`), 'latin1'));
    copy.write('dist/common/version.js', `export const VERSION = '${other}';`);
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

describe.runIf(TESTS_NATIVE)('The native engine', () => {
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

  test('throws for invalid arguments of its internal classes', () => {
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
  test.skipIf(process.platform !== 'linux')('survives a lack of memory', () => {
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

test.each(ENGINES)('a group on the %s engine still works if a Map is full', (engine) => {
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

test('an expired ban ends even if a Map is full', () => {
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

test('the TypeScript engine reads performance.now without hrtime, as in a browser', () => {
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

test('the TypeScript engine throws ERR_LIMITER_MEMORY if a Map is full', () => {
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
