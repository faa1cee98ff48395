// The flags of `npm start`, and what its demonstration makes of its two phases.

import { describe, expect, it } from 'vitest';
import type { AttackReport, HonestReport } from '../out/examples/relay/demo/messages.js';
import type { PhaseResult } from '../out/examples/relay/demo/phase.js';
import { failures, summary } from '../out/examples/relay/demo/summary.js';
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
};

const STOPPED: AttackReport = {
  name: 'flooder',
  sent: 160,
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
  { latency: { p50: 100, p99: 900 } },
  { expelled: 0, reason: '', refused: 0, addresses: 1, connected: true },
);

describe('The summary of a demonstration', () => {
  it('says that the guard did its job, in lines of at most 100 characters', () => {
    const outcome = { oneAddress: false, off: OFF, on: phase() };
    expect(failures(outcome)).toEqual([]);
    expect(summary(outcome)).toContain('The guard did its job');
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
