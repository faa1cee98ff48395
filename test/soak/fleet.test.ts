// The checker of `npm run soak:fleet`: what it reads from the logs of nodes, and when it says that a limit was exceeded.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { NodeLog, readLogs } from '../../out/soak/fleet/log.js';
import type { FleetLimit } from '../../out/soak/fleet/messages.js';
import { outcomeOf, verdictOf } from '../../out/soak/fleet/outcome.js';
import { ROWS } from '../../out/soak/fleet/rows.js';
import { runsOf } from '../../out/soak/fleet/runs.js';
import { type Result, textTable, withResults } from '../../out/soak/fleet/table.js';

const LIMIT: FleetLimit = {
  ...{ limiter: 'rate', mode: 'leased', onStoreFailure: 'closed' },
  ...{ rateLimit: 10, burstLimit: 20, leaseSeconds: 1, deadlineSeconds: 0.25 },
};

const folders: string[] = [];
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});

/** Lets nodes write their logs, and reads them. */
function logsOf(...write: ((log: NodeLog) => void)[]) {
  const folder = mkdtempSync(join(tmpdir(), 'relay-limiter-test-'));
  folders.push(folder);
  const names = write.map((_, node) => join(folder, String(node)));
  for (const [node, name] of names.entries()) write[node]?.(new NodeLog(name));
  return readLogs(names, 1010);
}

function admit(log: NodeLog, peer: string, count: number, at: number, from = at): void {
  for (let n = 0; n < count; n += 1) log.admitted(peer, from, at, 1);
}

function outcome(log: ReturnType<typeof readLogs>, changes: Partial<FleetLimit> = {}, bursts = 0) {
  return outcomeOf(log, { ...LIMIT, ...changes }, { bursts, nodes: 2 });
}

describe('the checker of the fleet', () => {
  it('holds while all nodes together admit burst + rate × time, and is above with one more', () => {
    const atBound = (log: NodeLog) => {
      admit(log, 'ada', 10, 1000);
      admit(log, 'ada', 5, 1001);
    };
    const log = logsOf(atBound, atBound);
    expect(outcome(log)).toEqual({ admitted: 30, bound: 30, excess: 0, allowed: 0 });
    expect(verdictOf(outcome(log))).toBe('holds');
    const above = logsOf(atBound, atBound, (third) => admit(third, 'ada', 1, 1000.5));
    expect(outcome(above)).toMatchObject({ admitted: 31, excess: 1 });
    expect(verdictOf(outcome(above))).toBe('above');
  });

  it('looks at all intervals, and at each peer for itself', () => {
    const log = logsOf((one) => {
      admit(one, 'ada', 1, 1000);
      admit(one, 'ada', 25, 1005);
      admit(one, 'bob', 20, 1005);
      admit(one, 'bob', 10, 1009);
    });
    // Far below the bound from begin to end.
    expect(outcome(log)).toEqual({ admitted: 26, bound: 70, excess: 5, allowed: 0 });
  });

  it('does not count an admission twice whose time is not known, since the node was stopped', () => {
    const log = logsOf(
      (stopped) => admit(stopped, 'ada', 10, 1001, 1000),
      (other) => admit(other, 'ada', 20, 1001),
    );
    expect(verdictOf(outcome(log))).toBe('holds');
    const known = logsOf((one) => admit(one, 'ada', 30, 1001));
    expect(verdictOf(outcome(known))).toBe('above');
  });

  it('allows what is documented for a fault, and no more', () => {
    const log = (count: number) => logsOf((one) => admit(one, 'ada', count, 1000));
    expect(verdictOf(outcome(log(20), {}, 1))).toBe('holds');
    expect(verdictOf(outcome(log(40), {}, 1))).toBe('documented');
    expect(verdictOf(outcome(log(41), {}, 1))).toBe('above');
  });

  it('allows shares for the mean time without the store, and everything with open', () => {
    const log = logsOf(
      (one) => {
        one.store('down', 1000);
        admit(one, 'ada', 30, 1001);
        one.store('up', 1001);
      },
      // Down until the end, 1010.
      (other) => other.store('down', 1009),
    );
    expect(outcome(log, { onStoreFailure: 'share' })).toMatchObject({ excess: 10, allowed: 10 });
    expect(verdictOf(outcome(log, { onStoreFailure: 'share' }))).toBe('documented');
    expect(verdictOf(outcome(log, { onStoreFailure: 'open' }))).toBe('no bound');
    expect(verdictOf(outcome(log))).toBe('above');
  });

  it('takes a log without admissions for an error', () => {
    expect(() => outcome(logsOf((one) => one.store('down', 1000)))).toThrow(
      'no message was admitted',
    );
  });
});

describe('the table of the fleet', () => {
  const results: Result[] = [
    {
      ...{ row: 'no fault', limiter: 'rate', mode: 'leased', policy: 'closed' },
      outcome: { admitted: 285, bound: 301.4, excess: -3, allowed: 0 },
    },
    {
      ...{ row: 'store: FLUSHALL', limiter: 'rules', mode: 'strict', policy: 'closed' },
      outcome: { admitted: 1285, bound: 1250, excess: 79.96, allowed: 80 },
    },
  ];

  it('is aligned as text', () => {
    expect(textTable(results).split('\n')).toEqual([
      'fault            limiter  mode    policy  admitted  bound  highest excess  verdict',
      'no fault         rate     leased  closed       285    301            none  holds',
      'store: FLUSHALL  rules    strict  closed      1285   1250            80.0  above, at most 80 documented',
    ]);
  });

  const [begin, end] = [
    '<!-- Made by `npm run soak:fleet -- --write`. -->',
    '<!-- End of the table. -->',
  ];
  const order = ['no fault', 'node: kill', 'store: FLUSHALL'];
  const empty = `before\n${begin}\n${end}\nafter\n`;

  it('is written into its place in the document', () => {
    const text = withResults(empty, results, order);
    expect(text.split('\n')).toEqual([
      ...['before', begin, ''],
      '| fault | limiter | mode | policy | admitted | bound | highest excess | verdict |',
      '|---|---|---|---|---:|---:|---:|---|',
      '| no fault | rate | leased | closed | 285 | 301 | none | holds |',
      '| store: FLUSHALL | rules | strict | closed | 1285 | 1250 | 80.0 | above, at most 80 documented |',
      ...['', end, 'after', ''],
    ]);
    expect(withResults(text, results, order)).toBe(text);
    expect(() => withResults('no place', results, order)).toThrow('the document has no lines');
  });

  it('keeps what was not run, in the order of the faults, and drops faults that are gone', () => {
    const [quiet, flush] = results as [Result, Result];
    const once = withResults(empty, [flush, { ...quiet, row: 'gone' }, quiet], ['gone', ...order]);
    const kill = { ...quiet, row: 'node: kill' };
    const calmer = { ...quiet, outcome: { ...quiet.outcome, admitted: 7 } };
    const rows = withResults(once, [kill, calmer], order).split('\n').slice(5, -4);
    expect(rows.map((row) => row.split(' | ').slice(0, 5))).toEqual([
      ['| no fault', 'rate', 'leased', 'closed', '7'],
      ['| node: kill', 'rate', 'leased', 'closed', '285'],
      ['| store: FLUSHALL', 'rules', 'strict', 'closed', '1285'],
    ]);
  });
});

describe('the faults of the fleet', () => {
  it('have different names, and each is run with the policy closed, by a limit and by rules', () => {
    expect(new Set(ROWS.map(({ name }) => name)).size).toBe(ROWS.length);
    for (const row of ROWS) {
      const runs = runsOf(row).map(({ limit: { limiter, mode, onStoreFailure } }) =>
        [limiter, mode, onStoreFailure].join(' '),
      );
      expect(new Set(runs).size).toBe(runs.length);
      expect(runs).toContain('rate leased closed');
      expect(runs).toContain('rules leased closed');
      expect(runs.includes('rules strict closed')).toBe(runs.includes('rate strict closed'));
    }
  });
});
