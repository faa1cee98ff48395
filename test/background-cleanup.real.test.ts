// The option `cleanup` in processes of their own, with real timers.

import { describe, expect, test } from 'vitest';
import { ENGINES } from './support/limiters.js';
import { run, runJson } from './support/processes.js';

describe.each(ENGINES)('A background cleanup on the %s engine', (engine) => {
  test('keeps no process and no worker thread alive', () => {
    const script = `
      import { Worker } from 'node:worker_threads';
      import { RateLimiter } from 'relay-limiter';
      globalThis.limiter = new RateLimiter({ engine: '${engine}', cleanup: { everySeconds: 0.02 } });
      limiter.check('peer');
      const code = \`
        import { RateLimiter } from '\${import.meta.resolve('relay-limiter')}';
        globalThis.limiter = new RateLimiter({ engine: '${engine}', cleanup: {} });
        limiter.check('peer');
      \`;
      new Worker(new URL('data:text/javascript,' + encodeURIComponent(code)));
    `;
    expect(run(script)).toEqual({ status: 0, stdout: '', stderr: '' });
  });

  test('removes old peers while the process does other things', () => {
    const script = `
      import { setTimeout } from 'node:timers/promises';
      import { RateLimiter } from 'relay-limiter';
      let now = 1;
      const limiter = new RateLimiter({
        engine: '${engine}',
        clock: () => now,
        cleanup: { maxAgeSeconds: 100, everySeconds: 0.02 },
      });
      for (let n = 0; n < 50_000; n += 1) limiter.check('peer-' + n);
      now += 101;
      const before = limiter.getStats().trackedPeers;
      while (limiter.getStats().trackedPeers > 0) await setTimeout(1);
      console.log(before);
    `;
    expect(runJson(script)).toBe(50_000);
  });
});

test('A background cleanup makes an exception of the clock an uncaught exception', () => {
  const script = `
    import { setTimeout } from 'node:timers/promises';
    import { RateLimiter } from 'relay-limiter';
    process.on('uncaughtException', (error) => console.log(error.message));
    let reads = 0;
    const clock = () => {
      reads += 1;
      if (reads === 1) throw new Error('no time');
      return 1;
    };
    globalThis.limiter = new RateLimiter({ clock, cleanup: { everySeconds: 0.02 } });
    while (reads < 3) await setTimeout(5);
  `;
  expect(run(script)).toEqual({ status: 0, stdout: 'no time', stderr: '' });
});
