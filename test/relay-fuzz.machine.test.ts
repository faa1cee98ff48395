// What the relay's memory keeps of attackers that do not speak WebSocket, or speak it badly.

import { expect, it } from 'vitest';
import { hasManyAddresses } from '../out/examples/relay/demo/addresses.js';
import { LimitingGuard } from '../out/examples/relay/guard.js';
import { Relay } from '../out/examples/relay/relay.js';
import { collectGarbage } from './support/garbage.js';
import { manualClock } from './support/limiters.js';
import { attackAll } from './support/relay-attackers.js';
import { Client } from './support/relay-client.js';

it('The heap of a relay stays as it was, whatever malformed frames it was sent', async () => {
  const clock = manualClock();
  const relay = await Relay.listen(0, new LimitingGuard({ clock }));
  try {
    const ann = await Client.join(relay.port, 'ann');
    const manyAddresses = await hasManyAddresses();
    const common = { relay, manyAddresses, clock, speaker: ann };
    const attacked = async (seed: number, count: number) => {
      await attackAll({ ...common, seed, count });
      await expect.poll(() => relay.counts().connections).toBe(1);
      collectGarbage();
      return process.memoryUsage().heapUsed;
    };
    // The first attacks compile code and fill pools.
    const before = await attacked(1, 400);
    const after = await attacked(1000, 2000);
    // Normally 0.7 MB; a connection that stayed would hold some 10 KB.
    expect(after - before).toBeLessThan(6 * 2 ** 20);
  } finally {
    relay.close();
  }
});
