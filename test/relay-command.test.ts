// The flags of `npm start`, and what its demonstration makes of its two phases.

import { describe, expect, it } from 'vitest';
import type { AttackReport, HonestReport } from '../out/examples/relay/demo/messages.js';
import type { PhaseResult } from '../out/examples/relay/demo/phase.js';
import { picture } from '../out/examples/relay/demo/picture.js';
import { failures, summary } from '../out/examples/relay/demo/summary.js';
import { LEGEND, Table } from '../out/examples/relay/demo/table.js';
import { readFlags } from '../out/examples/relay/flags.js';

describe('The command line of npm start', () => {
  it('has defaults', () => {
    expect(readFlags([])).toMatchObject({ peers: 12, seconds: 7, port: 0, keep: false });
  });

  it.each([
    '--peers many',
    '--peers 1',
    '--seconds 600',
    '--engine rust',
    '--port 65536',
    '--dashboard-port 65536',
    '--port',
    '--frobnicate',
    'surplus',
  ])('refuses %s', (args) => {
    expect(() => readFlags(args.split(' '))).toThrow();
  });
});

const HONEST: HonestReport = {
  publicMessages: { expected: 100, got: 100 },
  privateMessages: { expected: 10, got: 10 },
  orderbooks: { expected: 5, got: 5 },
  disconnected: 0,
  newcomer: 'let in',
  latency: { p50: 1, p99: 9 },
  spam: 12,
};

const STOPPED: AttackReport = {
  name: 'flooder',
  accepted: 1,
  expelled: 1,
  reason: 'too many messages',
  expelledAfter: 0.1,
  refused: 7,
  addresses: 2,
  connected: false,
};

const phase = (honest: Partial<HonestReport> = {}, attacker: Partial<AttackReport> = {}) => ({
  honest: { ...HONEST, ...honest },
  attackers: [{ ...STOPPED, ...attacker }],
  peakMemory: 1e8,
});

const OFF: PhaseResult = phase(
  { latency: { p50: 100, p99: 900 }, spam: 34_567 },
  { expelled: 0, reason: '', refused: 0, addresses: 1, connected: true },
);

describe('The summary of a demonstration', () => {
  it('says that the guard did its job, in lines of at most 100 characters', () => {
    const outcome = { oneAddress: false, off: OFF, on: phase() };
    expect(failures(outcome)).toEqual([]);
    const [, first, verdict] = summary(outcome).split('\n');
    expect(first).toBe('Honest peers: 100 times faster with the guard.');
    expect(verdict).toMatch(/^The guard did its job: /);
    expect(summary(outcome)).toMatch(/attackers' messages received +34,567 +12\n/);
    expect(summary(outcome)).toContain('The totals of the phases differ');
    for (const line of summary(outcome).split('\n')) expect(line.length).toBeLessThanOrEqual(100);
  });

  it.each<[string, PhaseResult]>([
    ['lost public messages', phase({ publicMessages: { expected: 100, got: 99 } })],
    ['lost private messages', phase({ privateMessages: { expected: 0, got: 0 } })],
    [
      'waited for an order book that did not arrive',
      phase({ orderbooks: { expected: 5, got: 4 } }),
    ],
    ['lost their connection', phase({ disconnected: 1 })],
    ['an honest newcomer was refused', phase({ newcomer: 'refused' })],
    ['not clearly faster', phase({ latency: { p50: 50, p99: 60 } })],
    ['the flooder was not stopped', phase({}, { connected: true })],
    ['the flooder was not stopped', phase({}, { expelled: 0, refused: 0 })],
  ])('says what failed: %s', (what, on) => {
    const outcome = { oneAddress: false, off: OFF, on };
    expect(failures(outcome)).toEqual([expect.stringContaining(what)]);
    expect(summary(outcome)).toContain(`The guard did not do its job: ${failures(outcome)[0]}`);
  });

  it.each([
    [{ p50: 100, p99: 900 }, { p50: 33, p99: 90 }, '3.0 times faster'],
    [{ p50: 100, p99: 900 }, { p50: 200, p99: 300 }, 'not faster'],
    [
      { p50: Number.NaN, p99: Number.NaN },
      { p50: 2, p99: 3 },
      'received nothing without the guard',
    ],
    [{ p50: 2, p99: 3 }, { p50: Number.NaN, p99: Number.NaN }, 'received nothing with the guard'],
  ])('begins with what a newcomer repeats: %j, %j: %s', (off, on, words) => {
    const outcome = {
      oneAddress: false,
      off: phase({ latency: off }),
      on: phase({ latency: on }),
    };
    expect(summary(outcome).split('\n')[1]).toMatch(new RegExp(`^Honest peers.* ${words}`));
  });

  it('with one address: claims no others, and says that newcomers are locked out', () => {
    const on = phase({ newcomer: 'refused' }, { addresses: 1 });
    const outcome = { oneAddress: true, off: OFF, on };
    expect(failures(outcome)).toEqual([]);
    const text = summary(outcome);
    expect(text).toMatch(/one more, after the attack +let in +refused\n/);
    expect(text).toContain('newcomers are refused until the ban ends, honest ones too (10 minutes');
    expect(text).not.toMatch(/from \d+ addresses/);
    for (const line of text.split('\n')) expect(line.length).toBeLessThanOrEqual(100);
    const many = summary({ oneAddress: false, off: OFF, on: phase() });
    expect(many).toContain('from 2 addresses');
    expect(many).not.toContain('newcomers');
  });
});

describe('The table of a demonstration', () => {
  const counts = {
    ...{ connections: 15, messagesIn: 0, delivered: 0, delayed: 0, missed: 0, disconnected: 0 },
    ...{ refused: 0, bans: 0, tracked: 15, residentMemory: 67e6 },
  };
  const second = (second: number, fromHonest: number, answered = true) => ({
    ...{ guarded: false, engine: 'none', second, counts: answered ? counts : undefined },
    honest: {
      latency: { p50: 553, p99: 1300 },
      received: { fromHonest, fromAttackers: 10 * fromHonest },
    },
  });

  it('says that the relay did not answer, and then counts per second', () => {
    const lines: string[] = [];
    const table = new Table((line) => lines.push(line));
    table.header();
    table.row(second(1, 500));
    table.row(second(2, 500, false));
    table.row(second(3, 500, false));
    table.row(second(4, 1100));
    const words = lines.map((line) => line.trim().split(/ {2,}/));
    expect(words[0]?.slice(0, 5)).toEqual(['guard', 'sec', 'conns', 'honest/s', 'spam/s']);
    expect(
      words.slice(1).map(([guard, sec, , honest, spam]) => [guard, sec, honest, spam]),
    ).toEqual([
      ['off', '1', '500', '5,000'],
      ['off', '2', undefined, undefined],
      ['off', '3', undefined, undefined],
      ['off', '4', '200', '2,000'],
    ]);
    expect(words[2]?.[2]).toBe('the relay did not answer');
    for (const line of [...lines, ...LEGEND.split('\n')]) {
      expect(line.length).toBeLessThanOrEqual(100);
    }
  });

  it('shows what the relay alone knows where there are no honest peers', () => {
    const lines: string[] = [];
    const table = new Table((line) => lines.push(line), false);
    table.header();
    const busy = { ...counts, messagesIn: 7, delivered: 77 };
    table.row({ ...second(1, 0), counts: busy, honest: undefined });
    expect(lines[0]).toMatch(/in\/s +out\/s/);
    expect(lines[0]).not.toContain('p50');
    expect(lines[1]).toMatch(/ 7 +77 /);
  });
});

describe('The picture of a demonstration', () => {
  it('draws each second with deliveries, on one logarithmic axis', () => {
    const svg = picture('3 times faster', [10, Number.NaN, 1000], [1, 1, 1]);
    const points = [...svg.matchAll(/<polyline points="([^"]*)"/g)].map(([, points]) =>
      String(points)
        .split(' ')
        .map((point) => point.split(',').map(Number)),
    );
    // The line of the first panel ends at the second without deliveries.
    expect(points.map((line) => line.length)).toEqual([1, 1, 3]);
    const heights = points.flat().map(([, y]) => y);
    expect(heights).toEqual([210.7, 84, 274, 274, 274].map((y) => expect.closeTo(y, 0)));
    expect(svg).toContain('<text class="title" x="66" y="28">3 times faster</text>');
    expect(svg.match(/>1\.0 s</g)).toHaveLength(1);
    expect(svg.match(/>×</g)).toHaveLength(1);
    expect(svg.match(/× nothing arrived/g)).toHaveLength(1);
  });

  it('has a contrast of at least 4.5 to 1 in each text, in light and in dark mode', () => {
    const [light, dark] = picture('a title', [1], [1]).split('@media') as [string, string];
    const colors = (style: string) => style.match(/(?<=(?:fill|color): )#\w{6}/g) ?? [];
    for (const style of [light, dark]) {
      const back = /\.back \{ fill: (#\w+)/.exec(style)?.[1] as string;
      const texts = colors(style).filter((color) => color !== back);
      expect(texts).toHaveLength(4);
      for (const text of texts) expect(contrast(text, back), text).toBeGreaterThan(4.5);
    }
  });

  it('is empty if nothing was delivered', () => {
    expect(picture('nothing', [Number.NaN], [Number.NaN])).not.toMatch(/NaN|Infinity|<circle/);
  });
});

/** The contrast of two colours by WCAG 2. */
function contrast(one: string, other: string): number {
  const [dark, light] = [one, other].map(luminance).sort((a, b) => a - b) as [number, number];
  return (light + 0.05) / (dark + 0.05);
}

function luminance(color: string): number {
  const [red, green, blue] = [1, 3, 5].map((at) => {
    const part = Number.parseInt(color.slice(at, at + 2), 16) / 255;
    return part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  }) as [number, number, number];
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}
