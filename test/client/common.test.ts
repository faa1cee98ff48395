// The common limits of a PolicyLimiterGroup: how its keys share them.

import { PolicyLimiterGroup, type PolicyLimiterGroupOptions } from 'relay-limiter/client';
import { describe, expect, it } from 'vitest';
import { mostIn, now, pass, type Sent, useVirtualTime } from './support.js';

useVirtualTime();

/** Returns a group, and the requests that it sends, which end at once. */
function sending(options: PolicyLimiterGroupOptions) {
  const group = new PolicyLimiterGroup({ clock: now, random: () => 0, ...options });
  const sent: (Sent & { key: string })[] = [];
  const send = (key: string, count = 1, more = {}) => {
    for (let n = 0; n < count; n += 1) {
      void group.run(() => sent.push({ key, at: now(), cost: 1 }), { key, ...more });
    }
  };
  const keys = () => sent.map(({ key }) => key).join('');
  return { group, sent, send, keys };
}
// The keys have limits of their own, wide enough to hold nothing back: without, each would wait for its first answer.
const wide = [{ quota: 10_000, windowSeconds: 1 }];

describe('PolicyLimiterGroup', () => {
  it('sends a tenth of a common window of one second at once and the rest evenly, all of it in a second', async () => {
    const { sent, send } = sending({
      policies: wide,
      common: [{ quota: 50, windowSeconds: 1 }],
    });
    send('a', 200);
    await pass(0);
    expect(sent).toHaveLength(5);
    for (const [seconds, count] of [
      [0.25, 18],
      [0.5, 30],
      [0.75, 43],
    ] as const) {
      await pass(0.25);
      expect(sent, `after ${seconds} s`).toHaveLength(count);
    }
    await pass(0.2);
    expect(sent).toHaveLength(50);
    await pass(10);
    expect(sent).toHaveLength(200);
    expect(mostIn(1, sent)).toBe(50);
    expect((sent.at(-1)?.at ?? 0) - (sent[0]?.at ?? 0)).toBeLessThan(4);
  });

  it.each([
    ['of more than one second', { common: [{ quota: 50, windowSeconds: 1.001 }] }, 50],
    [
      'with a large burstShare',
      { common: wide.map((one) => ({ ...one, quota: 50 })), burstShare: 0.99 },
      50,
    ],
    ['of each key', { policies: [{ quota: 50, windowSeconds: 1 }] }, 50],
  ])('sends a window %s as fast as possible', async (_, options, count) => {
    const { sent, send } = sending({ policies: wide, ...options });
    send('a', 60);
    await pass(0);
    expect(sent).toHaveLength(count);
  });

  it('gives back the pace with a refund', async () => {
    const { group } = sending({ policies: wide, common: [{ quota: 1, windowSeconds: 1 }] });
    const lease = await group.acquire({ key: 'a' });
    expect(group.limiter('a').delaySeconds()).toBeCloseTo(1, 9);
    lease.refund();
    expect(group.limiter('a').delaySeconds()).toBe(0);
  });

  it('serves the key first that had no request for longest, which counts as waiting', async () => {
    const { send, keys } = sending({ policies: wide, common: [{ quota: 1, windowSeconds: 1 }] });
    send('a', 1);
    await pass(1);
    send('b', 1);
    await pass(0.1);
    send('b', 2);
    await pass(0.1);
    send('a', 2);
    await pass(0.1);
    send('c', 1);
    await pass(10);
    // Of its next requests, `a` comes before `b`; `c` never had one.
    expect(keys()).toBe('abcabab');
  });

  it('serves a higher priority first, however long another key had no request', async () => {
    const { send, keys } = sending({ policies: wide, common: [{ quota: 1, windowSeconds: 1 }] });
    send('a', 1);
    send('a', 1, { priority: 1.1 });
    send('b', 1);
    await pass(10);
    expect(keys()).toBe('aab');
  });

  it('lets no stream of new keys hold a waiting one back for longer than agingSeconds', async () => {
    const { sent, send } = sending({
      policies: wide,
      common: [{ quota: 1, windowSeconds: 1 }],
      agingSeconds: 3,
    });
    send('a', 2);
    for (let n = 0; n < 40; n += 1) {
      await pass(0.5);
      send(`new ${n}`);
    }
    const waited = sent.filter(({ key }) => key === 'a').map(({ at }) => at - (sent[0] as Sent).at);
    expect(waited).toHaveLength(2);
    // New keys come twice as fast as the limit allows: those of the first three seconds are served before.
    expect(waited[1]).toBeGreaterThan(3);
    expect(waited[1]).toBeLessThan(9);
  });
});
