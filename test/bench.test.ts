// The benchmark's own arithmetic, and that it cannot be won by one that does not limit.

import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CASES, caseNamed, casesNamed } from '../bench/cases/index.js';
import { prove, type Subject } from '../bench/contestants.js';
import { Peers, peerKey } from '../bench/keys.js';
import { svg } from '../bench/plot.js';
import { writeReport } from '../bench/report.js';
import { type About, merged, type Result, spread } from '../bench/results.js';
import { number, ratio, textTable } from '../bench/table.js';
import { TESTS_NATIVE } from './support/limiters.js';

const about: About = {
  machine: 'a machine',
  system: 'a system',
  node: '20',
  packages: { 'relay-limiter': '1.0.0' },
};

function result(name: string, peers: number, contestant: string, ns: number): Result {
  const figures = { ns: spread([ns, ns, ns + 1]) };
  return { case: name, peers, contestant, date: '2026-01-01', rounds: 7, figures };
}

const results = [
  result('allowed', 1000, 'plain Map', 100),
  result('allowed', 1000, 'native', 200),
  result('allowed', 1_000_000, 'plain Map', 900),
  result('allowed', 1_000_000, 'native', 300),
  { ...result('allowed', 1000, 'limiter', 0), figures: {}, note: 'it forgets' },
];

describe('keys', () => {
  it('are all different, of the length asked for', () => {
    const keys = Array.from({ length: 200_000 }, (_, n) => peerKey(n * 499));
    expect(new Set(keys).size).toBe(keys.length);
    expect(new Set(keys.map((key) => key.length))).toEqual(new Set([21]));
    expect(peerKey(7, 70)).toHaveLength(70);
  });

  it('are timed in a sample of all, in another order, as the very strings', () => {
    const peers = new Peers(1000, 100);
    const all = Array.from({ length: 1000 }, (_, n) => peers.key(n));
    expect(new Set(all).size).toBe(1000);
    expect(peers.sample).toHaveLength(100);
    expect(peers.sample.every((key) => all.includes(key))).toBe(true);
    expect(peers.sample).not.toEqual(all.filter((key) => peers.sample.includes(key)));
  });
});

describe('the proof', () => {
  const limiting = () => {
    const counts = new Map<string, number>();
    return (burst: number) => (key: string) => {
      const count = (counts.get(key) ?? 0) + 1;
      counts.set(key, count);
      return count <= burst;
    };
  };
  const subject = (check: (key: string) => boolean): Subject => ({ answers: 'at once', check });

  it('passes who limits', async () => {
    await expect(prove(({ burst }) => subject(limiting()(burst)))).resolves.toBeUndefined();
  });

  it('fails who never refuses, who always does, and who forgets', async () => {
    await expect(prove(() => subject(() => true))).rejects.toThrow('does not limit');
    await expect(prove(() => subject(() => false))).rejects.toThrow('does not limit');
    const forgetful = ({ burst }: { burst: number }) => {
      const check = limiting()(burst);
      return subject((key) => key.endsWith('7') || check(key));
    };
    await expect(prove(forgetful)).rejects.toThrow(/forgets: \d+ of 1,000 peers/);
  });

  it('hears a refusal that comes later', async () => {
    const later = ({ burst }: { burst: number }): Subject => {
      const check = limiting()(burst);
      return {
        answers: 'later',
        consume: (key) => (check(key) ? Promise.resolve() : Promise.reject(new Error('no'))),
      };
    };
    await expect(prove(later)).resolves.toBeUndefined();
  });
});

describe('figures', () => {
  it('are the median, the lowest and the highest', () => {
    const values = [3, 1, 2, 9, 4];
    expect(spread(values)).toEqual({ low: 1, median: 3, high: 9, values });
  });

  it('have three digits that count', () => {
    expect([1234.5, 123.4, 12.34, 1.234, 0.1234].map(number)).toEqual([
      '1,235',
      '123',
      '12.3',
      '1.23',
      '0.123',
    ]);
    expect([undefined, null, Number.NaN].map(number)).toEqual(['-', '-', '-']);
  });

  it('are compared with the Map: twice as good is half of it', () => {
    expect(ratio(spread([100]), spread([50]))).toBe('2.00x');
    expect(ratio(spread([100]), spread([3]))).toBe('33x');
    expect(ratio(undefined, spread([3]))).toBe('');
    expect(ratio(spread([5]), spread([0]))).toBe('∞');
  });

  it('are compared round by round, since a machine has its moods', () => {
    const theirs = spread([100, 100, 300, 300, 300]);
    expect(ratio(theirs, spread([50, 50, 150, 150, 100]))).toBe('2.00x');
  });

  it('are kept with those of other cases, and never with those of other surroundings', () => {
    const earlier = { about, results };
    const again = [result('allowed', 1000, 'native', 150)];
    const later = merged(earlier, { about: { ...about }, results: again });
    expect(later.results).toEqual([results[2], results[3], ...again]);
    const elsewhere = { about: { ...about, node: '22' }, results: again };
    expect(() => merged(earlier, elsewhere)).toThrow('of another machine');
  });

  it('stand in a table, the reason where there are none', () => {
    const of = results.filter(({ peers }) => peers === 1000);
    expect(textTable(caseNamed('allowed'), 1000, of).split('\n')).toEqual([
      'check by key, allowed, 1,000 peers',
      '             per check, ns  lowest - highest  against the Map',
      '  plain Map            100         100 - 101            1.00x',
      '  native               200         200 - 201            0.50x',
      '  limiter    it forgets',
    ]);
  });
});

describe('the report', () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'relay-limiter-report-'));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  it('compares native with the Map, and says where it does not win', () => {
    writeReport({ about, results }, `${folder}/`);
    const report = readFileSync(join(folder, 'REPORT.md'), 'utf8');
    expect(report).toContain('| `allowed` check by key, allowed | 0.50x | 3.00x |');
    const losses = report.slice(report.indexOf('does not win'), report.indexOf('## `allowed`'));
    expect(losses).toContain('1,000 peers: plain Map (200 against 100 ns)');
    expect(losses).not.toContain('1,000,000 peers');
    expect(report).toContain('| limiter | not measured: it forgets |');
    expect(report).toContain('a machine');
    expect(report).toContain('plots/cost.svg');
    expect(report).not.toContain('plots/pause.svg');
    const plot = readFileSync(join(folder, 'plots/cost.svg'), 'utf8');
    expect(plot).toContain('>native</text>');
  });

  it('draws lines over logarithmic axes', () => {
    const points: [number, number][] = [
      [1_000, 10],
      [10_000, 100],
      [100_000, 1_000],
    ];
    const drawn = svg({ title: 'a < b', x: 'peers', y: 'ns', lines: [{ name: 'native', points }] });
    expect(drawn).toContain('<title>a &lt; b</title>');
    const [, along = ''] = /points="([^"]+)"/.exec(drawn) ?? [];
    const [first, middle, last] = along.split(' ').map((point) => point.split(',').map(Number));
    // Ten times as much is the same way up and across each time.
    expect(middle?.[0]).toBeCloseTo(((first?.[0] ?? 0) + (last?.[0] ?? 0)) / 2);
    expect(middle?.[1]).toBeCloseTo(((first?.[1] ?? 0) + (last?.[1] ?? 0)) / 2);
    expect(drawn).toContain('>100k</text>');
  });
});

describe('cases', () => {
  it('have names of their own, and say which there are', () => {
    expect(new Set(CASES.map(({ name }) => name)).size).toBe(CASES.length);
    expect(() => caseNamed('nothing')).toThrow(/there are allowed, refused/);
  });

  it('are found by the name of their group', () => {
    const names = casesNamed('rules').map(({ name }) => name);
    expect(names).toEqual([
      'rules-key',
      'rules-keys',
      'rules-opened',
      'rules-memory-1',
      'rules-memory-5',
    ]);
    expect(casesNamed('allowed')).toEqual([caseNamed('allowed')]);
    expect(() => casesNamed('nothing')).toThrow(/no case is called nothing/);
  });

  it.each(['rules-key', 'rules-keys', 'rules-opened'])(
    'prepare limiters that limit (%s)',
    async (name) => {
      const { contestants, prepare } = caseNamed(name);
      const own = contestants(1000).filter((contestant) => !contestant.includes('flexible'));
      for (const contestant of own.filter((one) => TESTS_NATIVE || !one.endsWith('native'))) {
        expect(await prepare(contestant, 1000)).toBeTypeOf('function');
      }
    },
  );
});
