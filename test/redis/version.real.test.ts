// The scripts of versions on a real server reply what SimulatedVersion replies, on which simulations run.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CHANGE_VERSION, readVersion, SYNC_VERSION } from '../../lib/redis/store/version.js';
import { runs } from '../support/runs.js';
import { SimulatedVersion } from './support/simulated-version.js';
import { NO_STORE, PREFIX, storeOfTests } from './support/store.js';

const anyName = fc.integer({ min: 1, max: 12 }).map((n) => `name${n}`);
/** Later than any time, as of a store whose clock was set back. */
const AHEAD = 9_000_000_000_000;
const anyKnown = fc.oneof(
  { weight: 3, arbitrary: fc.constant('current') },
  { weight: 1, arbitrary: fc.constant('') },
  { weight: 1, arbitrary: fc.constantFrom('rlv1|1|a|b', 'rlv1|9|a|b', `rlv1|${AHEAD}|c`) },
);
const anyCall = fc.oneof(
  fc.tuple(fc.constant('sync' as const), anyKnown, fc.boolean()),
  fc.tuple(fc.constant('change' as const), anyKnown, anyName),
);

describe.skipIf(NO_STORE)('The scripts of versions', () => {
  const real = storeOfTests();
  let round = 0;

  it('reply what the simulated store replies, and number changes by the time of the store', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(anyCall, { maxLength: 40 }), async (calls) => {
        round += 1;
        const key = `${PREFIX}:{version}:${round}`;
        let now = 0;
        const simulated = new SimulatedVersion(() => now);
        for (const [which, given, more] of calls) {
          const known = given === 'current' ? (simulated.text.split('\n')[0] as string) : given;
          const args =
            which === 'sync'
              ? [known, ...(more ? [`${known}\n{"restored":"a|b\\n"}`] : [])]
              : [known, 'first', more, `{"of":"${more}|"}`];
          const script = which === 'sync' ? SYNC_VERSION : CHANGE_VERSION;
          const [seconds, micros] = (await real.client.sendCommand(['TIME'])) as string[];
          const before = Number(seconds) * 1000 + Math.floor(Number(micros) / 1000);
          const reply = String(await real.client.eval(script, { keys: [key], arguments: args }));
          const { number = 0 } = readVersion(reply) ?? {};
          // The server's time in the script, unless the number is one more than another one.
          now = (number >= before && number < AHEAD ? number : before) / 1000;
          expect(reply).toBe(which === 'sync' ? simulated.sync(args) : simulated.change(args));
        }
      }),
      runs(50),
    );
  });

  it('keep the text for a day, and leave a key that is not theirs as it is', async () => {
    const run = (name: string, script: string, ...args: string[]) =>
      real.client.eval(script, { keys: [`${PREFIX}:{version}:${name}`], arguments: args });
    await run('kept', CHANGE_VERSION, '', 'first', 'name', '{}');
    expect(await real.client.ttl(`${PREFIX}:{version}:kept`)).toBeGreaterThan(80_000);
    await real.client.set(`${PREFIX}:{version}:foreign`, 'mine');
    for (const script of [SYNC_VERSION, CHANGE_VERSION]) {
      await expect(run('foreign', script, '', 'a', 'b', 'c')).rejects.toThrow('WRONGTYPE');
    }
    expect(await real.client.get(`${PREFIX}:{version}:foreign`)).toBe('mine');
  });
});
