// The jitter that a limiter measures, by which windows of `sliding` are longer.

import { describe, expect, it } from 'vitest';
import { JitterMeter } from '../../dist/client/jitter.js';
import { burst, lease, limited, said } from './support.js';

describe('JitterMeter', () => {
  it('returns the difference between the slowest and the fastest recent answer, at most 0.1', () => {
    const meter = new JitterMeter();
    expect(meter.seconds).toBe(0);
    meter.add(0.05, 0);
    expect(meter.seconds).toBe(0);
    meter.add(0.09, 1);
    expect(meter.seconds).toBeCloseTo(0.04);
    meter.add(20, 2);
    expect(meter.seconds).toBe(0.1);
  });

  it('forgets answers after one to two minutes', () => {
    const meter = new JitterMeter();
    meter.add(0.02, 0);
    meter.add(0.08, 59);
    meter.add(0.05, 61);
    expect(meter.seconds).toBeCloseTo(0.06);
    meter.add(0.05, 125);
    expect(meter.seconds).toBeCloseTo(0);
    meter.add(0.07, 1000);
    expect(meter.seconds).toBeCloseTo(0);
  });
});

describe('a window of sliding', () => {
  const answered = (options = {}) => {
    const policies = [{ quota: 5, windowSeconds: 10 }];
    const { limiter, clock } = limited(policies, { algorithm: 'sliding', ...options });
    const [fast, slow] = [lease(limiter), lease(limiter)];
    clock.now += 0.03;
    limiter.update(said(), 200, { lease: fast });
    clock.now += 0.05;
    limiter.update(said(), 200, { lease: slow });
    burst(limiter);
    return { limiter, clock };
  };

  it('is longer by the measured jitter, for requests that were sent before, too', () => {
    const { limiter, clock } = answered();
    expect(limiter.delaySeconds()).toBeCloseTo(9.97, 6);
    clock.now += 9.95;
    expect(burst(limiter)).toBe(0);
    clock.now += 0.021;
    expect(burst(limiter)).toBe(2);
    // A take does not make earlier ones expire sooner.
    clock.now += 0.03;
    expect(burst(limiter)).toBe(0);
  });

  it('has its own length if the jitter is an option', () => {
    expect(answered({ jitterSeconds: 0 }).limiter.delaySeconds()).toBeCloseTo(9.92, 6);
    expect(answered({ jitterSeconds: 1 }).limiter.delaySeconds()).toBeCloseTo(10.92, 6);
  });
});
