// The parts of the demonstration of a cluster that need no processes: its flags and its summary.

import { describe, expect, test } from 'vitest';
import { readFlags } from '../../out/examples/cluster/flags.js';
import { failures, type Outcome, summary } from '../../out/examples/cluster/summary.js';

describe('npm run demo:cluster', () => {
  test('has defaults for all flags', () => {
    expect(readFlags([])).toEqual({ seconds: 8, flood: 4000, help: false });
  });

  test.each(['--seconds 1', '--seconds many', '--flood 0', '--frobnicate', 'surplus'])(
    'refuses the flags %s',
    (args) => {
      expect(() => readFlags(args.split(' '))).toThrow();
    },
  );
});

describe('Its summary', () => {
  const run = (times: number[], admitted = times.length) => ({
    admitted,
    admissions: times.map((at) => ({ at, cost: 1 })),
    refused: 5,
    seconds: 10,
  });
  const outcome = (times: number[], admitted?: number): Outcome => ({
    shared: run(times, admitted),
    apart: run(Array.from({ length: 40 }, () => 0)),
    rateLimit: 1,
    burstLimit: 2,
  });

  test.each<[times: number[], admitted: number, failed: string[]]>([
    [[0, 0, 1, 2], 12, []],
    // Of the killed worker's admissions, some are only in the table.
    [[0, 0, 1, 2], 13, ['the limit was exceeded by 1.00 messages']],
    [[0, 0, 0, 1], 12, ['the limit was exceeded by 1.00 messages']],
    [[0], 1, ['not even the burst was admitted']],
  ])('says whether the limit held, for %j and %i in the table', (times, admitted, failed) => {
    const text = summary(outcome(times, admitted));
    expect(failures(outcome(times, admitted))).toEqual(failed);
    expect(text.includes('The limit held')).toBe(failed.length === 0);
    expect(text.includes('did not hold')).toBe(failed.length > 0);
  });

  test('compares both runs', () => {
    const text = summary(outcome([0, 0, 1, 2]));
    expect(text).toMatch(/admitted by all workers +4 +40\n/);
    expect(text).toMatch(/burst \+ rate x time: 2 \+ 1 x s +12 +12\n/);
    expect(text).toMatch(/admitted of what the limit allows +33% +333%\n/);
    expect(text).toMatch(/maximum excess in any interval +none +38\n/);
  });
});
