// What guardConnections counts, with sockets that are connected to nothing and in virtual time.

import { afterAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { few } from '../support/sockets.js';
import { guarded, settled } from './virtual.js';

vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval'] });
beforeEach(() => vi.clearAllTimers());
afterAll(() => void vi.useRealTimers());

describe('getStats of a ConnectionGuard', () => {
  test('counts connections that passed and were refused, by reason, and no messages', async () => {
    const { guard, connect } = guarded({ connections: { limiter: few(2), maxPerServer: 3 } });
    const [first] = [connect('192.0.2.1'), connect('192.0.2.1')];
    for (const address of ['192.0.2.1', '192.0.2.2', '192.0.2.3', '192.0.2.4']) connect(address);
    const { connections, messages } = guard.getStats();
    expect(connections).toMatchObject({
      open: 3,
      paused: 0,
      accepted: 3,
      refused: { rate: 1, concurrency: 2, ban: 0 },
    });
    expect(messages).toMatchObject({ passed: 0, delayed: 0 });
    first?.destroy();
    await settled();
    expect(guard.getStats().connections).toMatchObject({ open: 2, accepted: 3 });
  });

  test('counts PROXY headers that do not come, and connections that wait for none', async () => {
    const { guard, connect } = guarded({
      proxyProtocol: { trustedProxies: '192.0.2.1', maxPending: 1, headerSeconds: 5 },
    });
    connect('192.0.2.1');
    connect('192.0.2.1');
    vi.advanceTimersByTime(10_000);
    await settled();
    expect(guard.getStats().connections).toMatchObject({
      open: 0,
      accepted: 0,
      refused: { proxy: 1, pending: 1 },
    });
  });

  test('counts connections that missed a deadline or were expelled, without onVerdict too', () => {
    const { guard, connect } = guarded({ firstByteSeconds: 5, onVerdict: undefined });
    connect('192.0.2.1');
    guard.expel(connect('192.0.2.2'));
    vi.advanceTimersByTime(10_000);
    expect(guard.getStats().connections).toMatchObject({
      open: 0,
      accepted: 2,
      closed: { silence: 1, expelled: 1 },
    });
  });
});
