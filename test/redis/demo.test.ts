// The parts of the demonstration of a fleet that need no store: its flags, its measure of the bound, its summary.

import { describe, expect, it } from 'vitest';
import { cutSeconds, excess } from '../../out/examples/fleet/bound.js';
import { readFlags } from '../../out/examples/fleet/flags.js';
import { failures, type Outcome, summary } from '../../out/examples/fleet/summary.js';

describe('npm run demo:fleet', () => {
  it('has defaults for all flags', () => {
    expect(readFlags([])).toEqual({ seconds: 18, flood: 2000, help: false });
  });

  it.each(['--seconds 3', '--seconds many', '--flood 0', '--frobnicate', 'surplus'])(
    'refuses the flags %s',
    (args) => {
      expect(() => readFlags(args.split(' '))).toThrow();
    },
  );
});

describe('excess', () => {
  it('finds the interval with the most tokens above the bound', () => {
    const all = [0, 0, 0, 1, 1, 1].map((at) => ({ at, cost: 1 }));
    expect(excess(all, 1, 3)).toBe(2);
    expect(excess(all, 3, 3)).toBeCloseTo(0);
    expect(excess(all, 3, 5)).toBe(-2);
    expect(excess([], 1, 3)).toBe(-3);
  });

  it('counts an admission only for intervals that contain all the time in which it may have happened', () => {
    const late = { from: 0, at: 1, cost: 1 };
    const soon = { from: 1, at: 1, cost: 1 };
    expect(excess([late, soon], 1, 1)).toBe(0);
    expect(excess([{ ...late, from: 1 }, soon], 1, 1)).toBe(1);
    expect(excess([late, late, late], 1, 1)).toBe(1);
  });
});

describe('cutSeconds', () => {
  it('averages the time without the store over all nodes, except when all are cut off at once', () => {
    const cut = (node: number, from: number, to: number) => ({ node, from, to });
    expect(cutSeconds([], 2)).toBe(0);
    expect(cutSeconds([cut(0, 1, 3)], 4)).toBe(0.5);
    expect(cutSeconds([cut(0, 1, 4), cut(1, 2, 3)], 2)).toBe(1);
    expect(cutSeconds([cut(0, 1, 2), cut(1, 5, 7)], 2)).toBe(1.5);
  });
});

describe('failures and summary', () => {
  const all = (...times: number[]) => times.map((at) => ({ at, cost: 1 }));
  const outcome = (admissions: Outcome['admissions'], shared = 0): Outcome => ({
    ...{ admissions, refused: 10, calls: 1, rateLimit: 1, burstLimit: 2, seconds: 10 },
    ...{ away: { from: 4, to: 6 }, shared },
  });

  it.each<[times: number[], failed: string[]]>([
    [[0, 0, 1, 5, 7], []],
    [[0, 0, 0, 5, 7], ['the limit was exceeded by 1.00 messages']],
    [[5], ['nothing was admitted after the restart']],
    [[0, 1, 7], ['nothing was admitted without the store']],
  ])('agree on whether the limit held, with messages at %o', (times, failed) => {
    expect(failures(outcome(all(...times)))).toEqual(failed);
    const hasHeld = failed.length === 0;
    expect(summary(outcome(all(...times))).includes('The limit held.')).toBe(hasHeld);
    expect(summary(outcome(all(...times))).includes('did not hold')).toBe(!hasHeld);
  });

  it('subtract what the policy share may add', () => {
    const over = all(0, 0, 0, 5, 7);
    expect(failures(outcome(over, 0.5))).toEqual(['the limit was exceeded by 0.50 messages']);
    expect(failures(outcome(over, 1))).toEqual([]);
  });
});
