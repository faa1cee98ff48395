// Messages that wait for a limiter that changes as a whole, in virtual time: they pass as soon as the changed limiter allows
// it, and no check is wasted on them.

import { AsyncLocalStorage } from 'node:async_hooks';
import { RateLimiter, RuleLimiter } from 'relay-limiter';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { monotonicSeconds } from '../../dist/common/clock.js';
import { ENGINES } from '../support/limiters.js';
import { guardedVirtually } from './virtual.js';

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'hrtime'] }));
afterEach(() => void vi.useRealTimers());

const passing = (seconds: number) => vi.advanceTimersByTimeAsync(seconds * 1000);

describe.each(ENGINES)('A message that waits for a RuleLimiter on the %s engine', (engine) => {
  const rule = (rateLimit: number) => ({
    messages: { scope: 'address', action: 'message', rateLimit, burstLimit: 1 },
  });
  const guarded = (maxPauseSeconds = 600) => {
    const limiter = new RuleLimiter({
      engine,
      clock: monotonicSeconds,
      scopes: { address: { kind: 'address' } },
      rules: rule(0.01),
      bans: { address: { violations: 3, withinSeconds: 1000, seconds: 1000 } },
    });
    const virtual = guardedVirtually({ limiter, onDelay: 'pause', maxPauseSeconds });
    return { limiter, ...virtual };
  };

  test('passes at once after an update that allows it', async () => {
    const { limiter, connect } = guarded();
    const socket = connect();
    socket.receive('a', 'b');
    await passing(1);
    limiter.update({ rules: {} });
    // Not within the call.
    expect(socket.received).toEqual(['a']);
    await passing(0);
    expect([socket.received, socket.isPaused, vi.getTimerCount()]).toEqual([['a', 'b'], false, 0]);
  });

  test('waits for its new time after an update, and is no violation again', async () => {
    const { limiter, connect, verdicts } = guarded();
    const socket = connect();
    socket.receive('a', 'b');
    for (const rateLimit of [0.02, 0.03, 0.04]) limiter.update({ rules: rule(rateLimit) });
    await passing(24);
    expect(socket.received).toEqual(['a']);
    await passing(1.1);
    expect(socket.received).toEqual(['a', 'b']);
    expect(limiter.banSecondsLeft('address', '192.0.2.1')).toBe(0);
    expect(verdicts.map(({ did }) => did)).toEqual(['passed', 'passed', 'paused', 'passed']);
  });

  test('is checked at the end of its longest pause after an update to a slower rate', async () => {
    const { limiter, connect } = guarded(200);
    const socket = connect();
    socket.receive('a', 'b');
    limiter.update({ rules: rule(0.001) });
    await passing(150);
    expect(socket.closes).toEqual([]);
    limiter.update({ rules: rule(1) });
    await passing(1);
    expect(socket.received).toEqual(['a', 'b']);
  });

  test('closes its connection at once after an update that denies it', async () => {
    const { limiter, connect, verdicts } = guarded();
    const socket = connect();
    socket.receive('a', 'b');
    limiter.update({ deny: { address: ['192.0.2.1'] } });
    await passing(0);
    expect(verdicts.at(-1)).toMatchObject({ did: 'closed', reason: 'denied' });
    expect(socket.closes.length).toBe(1);
  });

  test('passes at once after clear, and so do those behind it as the rate allows', async () => {
    const { limiter, connect } = guarded();
    const [first, second] = [connect(), connect()];
    first.receive('a', 'b');
    second.receive('c');
    limiter.clear();
    await passing(0);
    expect([first.received, second.received]).toEqual([['a', 'b'], []]);
    limiter.clear();
    await passing(0);
    expect(second.received).toEqual(['c']);
  });

  test('passes in its own async context, and not after its user has paused it', async () => {
    const { limiter, connect } = guarded();
    const context = new AsyncLocalStorage<string>();
    const contexts: unknown[] = [];
    const socket = connect();
    socket.on('message', () => contexts.push(context.getStore()));
    context.run('message', () => socket.receive('a', 'b'));
    socket.pause();
    context.run('update', () => limiter.update({ rules: {} }));
    await passing(0);
    expect(contexts).toEqual(['message']);
    context.run('resume', () => socket.resume());
    expect(socket.received).toEqual(['a', 'b']);
    context.run('message', () => socket.receive('c'));
    limiter.update({ rules: rule(0.01) });
    context.run('message', () => socket.receive('d', 'e'));
    context.run('update', () => limiter.update({ rules: {} }));
    await passing(0);
    expect(contexts.slice(2)).toEqual(['message', 'message', 'message']);
  });
});

test.each(ENGINES)(
  'A message that waits for a RateLimiter on the %s engine passes after clear',
  async (engine) => {
    const clock = monotonicSeconds;
    const limiter = new RateLimiter({ rateLimit: 0.01, burstLimit: 1, engine, clock });
    const { connect } = guardedVirtually({
      messages: { limiter, key: 'address' },
      onDelay: 'pause',
      maxPauseSeconds: 600,
    });
    const [socket, other] = [connect(), connect()];
    socket.receive('a', 'b');
    socket.terminate();
    other.receive('c');
    limiter.clear();
    await passing(0);
    expect([other.received, vi.getTimerCount()]).toEqual([['c'], 0]);
  },
);
