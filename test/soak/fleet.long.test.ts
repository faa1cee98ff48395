// Some of the faults of `npm run soak:fleet`, with real processes and stores, and the command itself.

import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { findServer } from '../../out/examples/fleet/server.js';
import { verdictOf } from '../../out/soak/fleet/outcome.js';
import { ROWS } from '../../out/soak/fleet/rows.js';
import { runOnce, runsOf } from '../../out/soak/fleet/runs.js';
import { ShiftedClocks } from '../../out/soak/fleet/shifted-clocks.js';
import { start } from '../support/processes.js';

const MAIN = fileURLToPath(new URL('../../out/soak/fleet/main.js', import.meta.url));
/** Each fault in one mode, with one limiter: the command runs the others. */
const CHOSEN = [
  ['node: SIGSTOP', 'leased', 'rate'],
  ['node: machine asleep', 'leased', 'rules'],
  ['store: killed, restarted from an old state', 'strict', 'rules'],
  ['network: replies lost', 'strict', 'rate'],
] as const;

const program = findServer();
const clocks = program === undefined ? undefined : ShiftedClocks.create();
afterAll(() => clocks?.close());

const runs = CHOSEN.map(([fault, mode, limiter]) => {
  const run = ROWS.filter(({ name }) => name.startsWith(fault))
    .flatMap(runsOf)
    .find(
      ({ limit }) =>
        limit.onStoreFailure === 'closed' && limit.mode === mode && limit.limiter === limiter,
    );
  if (run === undefined) throw new Error(`no fault ${fault} in mode ${mode} with ${limiter}`);
  return run;
}).filter(({ row }) => clocks !== undefined || row.clocksOf === undefined);

describe.skipIf(program === undefined)('a fleet with the policy closed', () => {
  it.each(runs)(
    'keeps the bound of $limit.limiter after "$row.name" in mode $limit.mode',
    async (run) => {
      const outcome = await runOnce({ program: program as string, clocks }, run);
      expect(verdictOf(outcome)).toBe('holds');
    },
  );
});

describe.skipIf(program === undefined)('the command soak:fleet', () => {
  it('ends with a table and exit code 0', async () => {
    const { code, output } = await start(MAIN, ['--only', 'kill -9', '--limiter', 'rules']).ended;
    expect(output).toMatch(
      /^ {2}1\/1 {2}node: kill -9, replaced, rules, leased, closed \.\.\. holds\n/,
    );
    expect(output).toMatch(
      /\nnode: kill -9, replaced +rules +leased +closed +\d+ +\d+ +none +holds\n/,
    );
    expect(code).toBe(0);
  });

  it.each(['--only nonsense', '--limiter nonsense', '--nonsense'])(
    'ends with 2 for the wrong flags %s',
    async (flags) => {
      const { code, output } = await start(MAIN, flags.split(' ')).ended;
      expect(output).toMatch(/^soak:fleet: .+ \(npm run soak:fleet -- --help lists the flags\)\n$/);
      expect(code).toBe(2);
    },
  );

  it('ends early when it is interrupted', async () => {
    const soak = start(MAIN, ['--only', 'SIGSTOP']);
    await soak.line(/1\/\d+ {2}/);
    soak.interrupt();
    expect((await soak.ended).code).toBe(130);
  });
});
