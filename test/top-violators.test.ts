// The worst violators of the TypeScript engine, against a model that sorts all; and that listing them
// takes no pass over the offenders.

import { RateLimiter } from 'relay-limiter';
import { describe, expect, test } from 'vitest';
import { TopViolators } from '../lib/engine/js/top-violators.js';
import { manualClock } from './support/limiters.js';
import { seeded } from './support/random.js';

interface Violator {
  key: string;
  violations: number;
  order: number;
}

const worstFirst = (a: Violator, b: Violator) => b.violations - a.violations || a.order - b.order;

describe('TopViolators', () => {
  test.each([1, 2, 3, 4, 5])('lists the worst violators in order, with seed %i', (seed) => {
    const random = seeded(seed);
    const top = new TopViolators();
    const all: Violator[] = [];
    let [order, recounts] = [0, 0];
    // Somebody new, or somebody known: rather one of a few, so that there are ties and favourites.
    const offend = () => {
      const isNew = all.length === 0 || random() < 0.5;
      if (isNew) {
        order += 1;
        all.push({ key: `${order}`, violations: 0, order });
      }
      const range = random() < 0.5 ? all.length : Math.min(all.length, 40);
      const violator = (isNew ? all.at(-1) : all[random.below(range)]) as Violator;
      violator.violations += 1;
      const { key, violations } = violator;
      top.count(key, violations, violations - 1, violator.order, all.length - 1);
    };
    // Anybody, or the worst, as when they are thrown out.
    const forgive = () => {
      const worst = [...all].sort(worstFirst)[0];
      const violator = random() < 0.5 ? worst : random.pick(all);
      if (violator === undefined) return;
      top.remove(violator.violations, violator.order);
      all.splice(all.indexOf(violator), 1);
    };
    for (let step = 0; step < 10_000; step += 1) {
      // Now a flood, now a cleanup.
      const isFlood = Math.floor(step / 500) % 3 !== 2;
      if (random() < 1 / 8 ? !isFlood : isFlood) offend();
      else forgive();
      if (step % 3 > 0) continue;
      if (!top.isComplete(all.length)) {
        recounts += 1;
        top.clear();
        for (const [n, { key, violations, order }] of all.entries())
          top.count(key, violations, 0, order, n);
      }
      expect(top.keys()).toEqual(
        [...all]
          .sort(worstFirst)
          .slice(0, 10)
          .map(({ key }) => key),
      );
    }
    expect(recounts).toBeGreaterThan(0);
    expect(recounts).toBeLessThan(200);
  });
});

test('an overview of the TypeScript engine does not visit the offenders', () => {
  const limiter = new RateLimiter({ engine: 'js', burstLimit: 1, clock: manualClock() });
  for (let n = 0; n < 2000; n += 1) {
    for (let i = n % 50; i >= 0; i -= 1) limiter.check(`peer-${n}`, 2);
  }
  for (let n = 0; n < 30; n += 1) limiter.removePeer(`peer-${49 + 50 * n}`);
  const worst = Array.from({ length: 10 }, (_, n) => [`peer-${49 + 50 * (30 + n)}`, 50]);
  const names = ['entries', 'keys', 'values', 'forEach', Symbol.iterator] as const;
  const own = names.map((name) => Map.prototype[name]);
  const refuse = () => {
    throw new Error('a pass over a Map');
  };
  try {
    for (const name of names) Object.assign(Map.prototype, { [name]: refuse });
    expect(limiter.getOverview().topViolators).toEqual(worst);
  } finally {
    for (const [i, name] of names.entries()) Object.assign(Map.prototype, { [name]: own[i] });
  }
});
