// The relay of examples/relay against sockets that do not speak WebSocket, or speak it badly: it must
// go on, forget them, and serve who speaks it well. RELAY_LIMITER_SEED=n repeats a run.

import { describe, expect, it } from 'vitest';
import { hasManyAddresses } from '../out/examples/relay/demo/addresses.js';
import { type Guard, LimitingGuard, NO_GUARD } from '../out/examples/relay/guard.js';
import { Relay } from '../out/examples/relay/relay.js';
import { manualClock } from './support/limiters.js';
import { attackAll, HANDSHAKE, statusOf } from './support/relay-attackers.js';
import { Client } from './support/relay-client.js';
import { printSeedOnFailure, SEED } from './support/seed.js';

describe.each<[string, (clock: () => number) => Guard]>([
  ['without limits', () => NO_GUARD],
  ['guarded', (clock) => new LimitingGuard({ clock })],
])('the relay %s', (_, createGuard) => {
  it('survives malformed frames', async () => {
    printSeedOnFailure();
    const clock = manualClock();
    const relay = await Relay.listen(0, createGuard(clock));
    try {
      const ann = await Client.join(relay.port, 'ann');
      const bob = await Client.join(relay.port, 'bob');
      const manyAddresses = await hasManyAddresses();
      const attacks = { relay, seed: SEED, count: 400, manyAddresses, clock, speaker: ann };
      const words = await attackAll(attacks);
      await expect.poll(() => relay.counts().connections).toBe(2);
      await ann.caughtUp();
      await bob.caughtUp();
      const heard = bob.received.flatMap((message) =>
        message.type === 'public' && message.from === 'ann' ? [message.text] : [],
      );
      expect(heard).toEqual(words);
      const counts = relay.counts();
      expect(counts.tracked).toBeLessThanOrEqual(4);
      expect(counts.messagesIn).toBeGreaterThanOrEqual(words.length + 2);
      expect(counts.delivered).toBeGreaterThanOrEqual(words.length);
    } finally {
      relay.close();
    }
  });
});

describe('the relay', () => {
  it('answers a handshake, and refuses one without a key', async () => {
    const relay = await Relay.listen(0, NO_GUARD);
    try {
      expect(await statusOf(relay.port, HANDSHAKE)).toBe(101);
      expect(await statusOf(relay.port, HANDSHAKE.replace(/Sec-WebSocket-Key.*\r\n/, ''))).toBe(
        400,
      );
    } finally {
      relay.close();
    }
  });
});
