// What close() of a leased limiter waits for and returns to the store, in virtual time, with a simulated store.

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { SharedRateLimiter } from '../../lib/redis/index.js';
import { ENGINES } from '../support/limiters.js';
import { uncaught } from '../support/uncaught.js';
import { World } from './support/world.js';

let world: World;
const first = () => world.nodes[0] as SharedRateLimiter;
afterEach(() => {
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

/** Describes the state of a close() after so many seconds. */
async function stateAfter(closing: Promise<void>, seconds: number): Promise<string> {
  let state = 'not done';
  closing.then(() => {
    state = `done, ${world.leasedInStore()} on lease`;
  });
  await world.time.run(seconds);
  return state;
}

describe.each(ENGINES)(
  'SharedRateLimiter in mode leased, with the %s engine, when it closes,',
  (engine) => {
    beforeEach(async () => {
      world = new World(1, { engine, rateLimit: 10, burstLimit: 100 });
      await world.time.run(1);
      world.roundTripSeconds = 0.02;
    });

    it('returns leases that are being requested, those of removed peers too, and may be closed twice', async () => {
      first().check('p');
      first().check('q');
      first().removePeer('q');
      // The store has granted the leases; the replies are in flight.
      await world.time.run(0.035);
      expect(world.leasedInStore()).toBeGreaterThan(10);
      const closings = [first().close(), first().close()];
      expect(await Promise.all(closings.map((one) => stateAfter(one, 0.3)))).toEqual([
        'done, 0 on lease',
        'done, 0 on lease',
      ]);
    });

    it('returns leases in batches', async () => {
      const peers = Array.from({ length: 500 }, (_, n) => `peer-${n}`);
      for (const peer of peers) first().check(peer);
      await world.time.run(1);
      expect(world.leasedAtNodes()).toBeGreaterThan(5000);
      const { calls } = first().getStats().store;
      expect(await stateAfter(first().close(), 0.5)).toBe('done, 0 on lease');
      // One call for each of the 64 groups of peers.
      expect(first().getStats().store.calls - calls).toBeLessThanOrEqual(64);
    });

    it('does not wait for checks that are made after close()', async () => {
      let peers = 0;
      const check = () => {
        first().check(`peer-${peers}`);
        peers += 1;
        if (peers < 100) world.time.after(0.005, check);
      };
      check();
      await world.time.run(0.1);
      expect(await stateAfter(first().close(), 0.2)).toMatch(/^done/);
      expect(peers).toBeLessThan(100);
    });

    it('finishes although a listener has thrown', async () => {
      first().on('failure', () => {
        throw new Error('from the listener');
      });
      const answer = world.store.eval.bind(world.store);
      vi.spyOn(world.store, 'eval').mockImplementation((text, keys, args) => {
        // Heartbeats are answered.
        if (text.includes('INFO')) return answer(text, keys, args);
        throw new Error('WRONGTYPE a foreign key');
      });
      const verdict = first().checkAsync('p');
      let state = '';
      const surfaced = await uncaught(async () => {
        state = await stateAfter(first().close(), 0.3);
      });
      expect(surfaced.map(({ message }) => message)).toEqual(['from the listener']);
      expect(state).toMatch(/^done/);
      expect((await verdict)[0]).toBe('delay');
    });

    it('returns a lease of a second request that follows from the first', async () => {
      // The second check requests a lease. The others wait, and are part of a request after its reply.
      const checks = [1, 2, 3, 4].map((cost) => first().checkAsync('p', cost * 5));
      first().removePeer('p');
      expect(await stateAfter(first().close(), 0.3)).toBe('done, 0 on lease');
      expect((await Promise.all(checks)).map(([action]) => action)).toEqual(Array(4).fill('allow'));
    });
  },
);
