// 100,000 calls that wait at the same time: each of them ends, by its deadline, its signal, its turn or the end of the
// limiter. With work in proportion to the number of waiting calls for each of them, this would take hours.

import { PolicyLimiter } from 'relay-limiter/client';
import { expect, it } from 'vitest';
import { codeOf } from '../support/limiters.js';

const CALLS = 100_000;

it('PolicyLimiter ends 100,000 waiting calls by deadlines, signals, turns and its end', async () => {
  const limiter = new PolicyLimiter({
    policies: [{ quota: 1e9, windowSeconds: 1 }],
    maxConcurrent: 1,
    maxQueue: CALLS,
    // So long that the order depends on priorities alone, however slow the machine is.
    agingSeconds: 1e6,
  });
  const first = await limiter.acquire();
  const controller = new AbortController();
  const { signal } = controller;
  const ends = { deadline: 0, signal: 0, turn: 0, close: 0 };
  let lastPriority = Infinity;
  let isOpen = true;
  const turn = limiter.acquire({ priority: -1 });
  const calls = Array.from({ length: CALLS - 1 }, async (_, n) => {
    const priority = n % 7;
    try {
      const options = [{ deadlineSeconds: 1 }, { signal }, {}][n % 3];
      const lease = await limiter.acquire({ priority, ...options });
      ends.turn += 1;
      // Higher priorities are served first.
      expect(priority).toBeLessThanOrEqual(lastPriority);
      lastPriority = priority;
      if (ends.turn === CALLS / 10) {
        isOpen = false;
        limiter.close();
      }
      lease.release();
    } catch (error) {
      const { code } = error as { code?: string };
      if (error === signal.reason) ends.signal += 1;
      else if (code === 'ERR_LIMITER_DEADLINE') ends.deadline += 1;
      else if (code === 'ERR_LIMITER_CLOSED' && !isOpen) ends.close += 1;
      else throw error;
    }
  });
  expect(limiter.state().waiting).toBe(CALLS);
  await expect(limiter.acquire()).rejects.toMatchObject({ code: 'ERR_LIMITER_QUEUE' });
  controller.abort(new Error('no longer needed'));
  await expect.poll(() => ends.deadline).toBe(Math.ceil((CALLS - 1) / 3));
  expect(limiter.state().waiting).toBe(CALLS - 2 * Math.ceil((CALLS - 1) / 3));
  first.release();
  await Promise.all(calls);
  await expect(turn).rejects.toMatchObject({ code: 'ERR_LIMITER_CLOSED' });
  expect(ends).toEqual({ deadline: 33_333, signal: 33_333, turn: 10_000, close: 23_333 });
  expect(limiter.state()).toMatchObject({ waiting: 0, running: 0 });
  expect(codeOf(() => limiter.tryAcquire(-1))).toBe('ERR_LIMITER_COST');
});
