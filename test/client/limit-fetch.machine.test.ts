// The memory that limitFetch keeps of finished requests, measured by garbage collection.

import { limitFetch, PolicyLimiter } from 'relay-limiter/client';
import { expect, it } from 'vitest';
import { collectGarbage } from '../support/garbage.js';

it('limitFetch keeps no memory of a request once its response cannot be read any more', async () => {
  const { signal } = new AbortController();
  const followers: WeakRef<AbortSignal>[] = [];
  const answers = [() => new Response(null), () => new Response('text'), () => Promise.reject()];
  const answering: typeof fetch = async (_, init) => {
    if (init?.signal) followers.push(new WeakRef(init.signal));
    return await (answers[followers.length % 3] as () => Response)();
  };
  const limiter = new PolicyLimiter({ policies: [{ quota: 1000, windowSeconds: 1 }] });
  const limited = limitFetch(answering, limiter, { deadlineSeconds: 60, maxAttempts: 1 });
  for (let n = 0; n < 60; n += 1) {
    const response = await limited('http://a.example', { signal }).catch(() => undefined);
    await response?.text();
  }
  expect(followers).toHaveLength(60);
  // Normally 0. Each of three kinds of answers has 20 requests, so a leak of one kind is 20.
  await expect
    .poll(() => {
      collectGarbage();
      return followers.filter((follower) => follower.deref() !== undefined).length;
    })
    .toBeLessThan(10);
});
