// Limiters by the thousand, in a process of their own.

import { expect, test } from 'vitest';
import { ENGINES } from './support/limiters.js';
import { runJson } from './support/processes.js';

const LIMITERS = JSON.stringify(new URL('support/lifecycles.mjs', import.meta.url).href);

test.each(ENGINES)(
  'thousands of limiters of engine %s come and go, and resident memory stays',
  (engine) => {
    const env = { RELAY_LIMITER_ENGINE: engine };
    const script = `
      import * as library from 'relay-limiter';
      import { create, use } from ${LIMITERS};
      const turn = () => new Promise((resolve) => setImmediate(resolve));
      // The most that is resident while so many sets come and go.
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
    // Three hundred sets lie between, 80 MB if all of them were kept.
    expect(last - first).toBeLessThan(20e6);
  },
);
