// A node whose machine has slept longer than a lease: the store has given the tokens to others meanwhile.

import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, it } from 'vitest';
import { ShiftedClocks } from '../../out/soak/fleet/shifted-clocks.js';
import { ENGINES } from '../support/limiters.js';
import { NO_SERVER, startServer } from './support/store.js';

const NODE = fileURLToPath(new URL('support/sleeping-node.mjs', import.meta.url));
const clocks = NO_SERVER === false ? ShiftedClocks.create() : undefined;

afterAll(() => clocks?.close());

describe.skipIf(clocks === undefined)('SharedRateLimiter on a machine that sleeps', () => {
  it.for(ENGINES)(
    'has leases until they end by its clocks, and then none (%s)',
    async (engine, test) => {
      const { expect, onTestFinished } = test;
      const server = await startServer();
      onTestFinished(() => server.close());
      const env = { ...process.env, ...clocks?.env };
      const node = fork(NODE, [JSON.stringify({ url: server.url, engine })], { env });
      onTestFinished(() => void node.kill('SIGKILL'));
      const leased = async () => (await once(node, 'message'))[0] as number;
      const leasedNow = () => {
        node.send('leased');
        return leased();
      };
      const before = await leased();
      expect(before).toBeGreaterThan(0);
      clocks?.sleep(500);
      expect(await leasedNow()).toBe(before);
      clocks?.sleep(500);
      expect(await leasedNow()).toBe(0);
    },
  );
});
