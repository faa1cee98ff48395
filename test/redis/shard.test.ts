// Shard and its clock: what happens if the receiver of a reply fails.

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Deadlines } from '../../lib/redis/store/deadlines.js';
import { HEARTBEAT } from '../../lib/redis/store/heartbeat-scripts.js';
import { ReplyClock } from '../../lib/redis/store/reply-clock.js';
import { CallbackCall } from '../../lib/redis/store/script-call.js';
import { Shard } from '../../lib/redis/store/shard.js';
import { codeOf } from '../support/limiters.js';
import { VirtualTime } from './support/virtual-time.js';

describe('Shard.call', () => {
  let time: VirtualTime;
  beforeEach(() => {
    time = new VirtualTime();
    time.install();
  });
  afterEach(() => {
    vi.unstubAllGlobals();
    vi.restoreAllMocks();
  });

  it('passes an error of the receiver of a reply to `failed`, and the call is not in flight any more', async () => {
    const counters = { calls: 0, beats: 0, failures: 0, downs: 0, inFlight: 0 };
    const evaluate = async (text: string) =>
      text === HEARTBEAT ? ['run', String(time.now), 1, 'epoch', '', '0', '0'] : 'reply';
    const context = {
      client: {
        isCluster: false,
        eval: evaluate,
        evalSha: evaluate,
        duplicate: () => {
          throw new Error('not used');
        },
        shardSubscriber: () => undefined,
        lastError: () => undefined,
        release: () => {},
      },
      limit: {
        rateLimit: 1,
        burstLimit: 1,
        disconnectThreshold: null,
        leaseSeconds: 1,
        shortLeaseSeconds: 1,
      },
      nodeId: '1',
      owner: 'Test',
      bornAt: 0,
      deadlines: new Deadlines(1),
      deadlineSeconds: 1,
      createScript: (name: string) => ({ text: name, sha: name }),
      givenWhileDown: () => 0,
      onChange: () => {},
      counters,
    };
    const shard = new Shard(context, 0, 'test');
    await time.run(0.01);
    const events: unknown[] = [];
    const answered = () => {
      events.push('answered');
      throw new Error('no memory');
    };
    const failed = (error: Error) => events.push(error.message);
    shard.call(new CallbackCall('check', ['key'], [], answered, failed));
    await time.run(0.01);
    expect(events).toEqual(['answered', 'no memory']);
    expect([counters.inFlight, counters.failures, shard.state]).toEqual([0, 0, 'up']);
    await shard.close();
  });
});

describe('ReplyClock', () => {
  it('throws in a call, and gives the last known time in a reply, if the clock fails', () => {
    let now: number | undefined = 5;
    const clock = new ReplyClock(() => {
      if (now === undefined) throw new Error('broken');
      return now;
    });
    expect([clock.read(), clock.readInReply()]).toEqual([5, 5]);
    now = 6;
    expect(clock.readInReply()).toBe(6);
    now = undefined;
    expect(() => clock.read()).toThrow('broken');
    expect(clock.readInReply()).toBe(6);
    now = Number.NaN;
    expect(codeOf(() => clock.read())).toBe('ERR_LIMITER_CLOCK');
    expect(clock.readInReply()).toBe(6);
  });
});
