// SharedRuleLimiter and time: a clock that fails, and a process that is stopped in the middle of a check.

import { afterEach, describe, expect, it, vi } from 'vitest';
import type { RuleVerdict } from '../../../lib/rules/types.js';
import { type RuleOptions, RuleWorld } from '../support/rule-world.js';

afterEach(() => {
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

const PUNISHED: RuleOptions = {
  scopes: { connection: {} },
  rules: { messages: { scope: 'connection', rateLimit: 0.001, burstLimit: 2 } },
  bans: { connection: { violations: 10, withinSeconds: 60, seconds: 60 } },
};

describe.each(['leased', 'strict'] as const)('SharedRuleLimiter in mode %s', (mode) => {
  it('answers a check whose reply arrives while the clock fails, and counts its violation', async () => {
    const world = new RuleWorld(0, { ...PUNISHED, mode });
    let fails = false;
    const clock = () => {
      if (fails) throw new Error('broken clock');
      return world.time.now;
    };
    const node = world.start({ clock });
    await world.settle();
    for (let n = 0; n < 2; n += 1) await world.check(node, 'c');
    const verdicts: RuleVerdict[] = [];
    void node.checkAsync('c').then((verdict) => verdicts.push(verdict));
    fails = true;
    await world.settle();
    expect(verdicts).toMatchObject([{ outcome: 'delay', rule: 'messages' }]);
    await expect(node.checkAsync('c')).rejects.toThrow('broken clock');
    fails = false;
    expect(node.getStats().scopes['connection']?.totalViolations).toBe(1);
    expect(node.getStats().store).toMatchObject({ inFlight: 0, failures: 0 });
  });
});
