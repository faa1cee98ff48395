// What `npm run demo:fleet` runs: its flags and exit codes, and the demonstration itself.

import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { failures, type Outcome, summary } from '../../out/examples/fleet/summary.js';
import { ROOT, start } from '../support/processes.js';
import { NO_SERVER } from './support/store.js';

const MAIN = fileURLToPath(new URL('../../out/examples/fleet/main.js', import.meta.url));

describe('the command', () => {
  it('lists its flags', async () => {
    const { code, output } = await start(MAIN, ['--help']).ended;
    expect(code).toBe(0);
    expect(output).toContain('--seconds N');
  });

  it.each(['--seconds 3', '--seconds many', '--flood 0', '--frobnicate', 'surplus'])(
    'refuses %s',
    async (args) => {
      const { code, output } = await start(MAIN, args.split(' ')).ended;
      expect(code).toBe(2);
      expect(output).toMatch(/^demo:fleet: .+ \(npm run demo:fleet -- --help\)\n$/);
    },
  );

  it('says how to install a server where there is none', async () => {
    const { PATH, REDIS_URL } = process.env;
    process.env['PATH'] = ROOT;
    delete process.env['REDIS_URL'];
    const { code, output } = await start(MAIN, []).ended;
    Object.assign(process.env, { PATH }, REDIS_URL && { REDIS_URL });
    expect(code).toBe(1);
    expect(output).toContain('apt-get install redis-server');
  });

  // It runs in real time: a machine that stands still for a second in the middle is given another try.
  it.skipIf(NO_SERVER)('shows that the limit holds', { timeout: 60_000, retry: 2 }, async () => {
    const { code, output } = await start(MAIN, ['--seconds', '5']).ended;
    expect(output).toContain('The limit held.');
    expect(output).toMatch(/of it without the store +[1-9]/);
    // Steady peers live on leases.
    expect(output).toMatch(/^ {2}all( +[\d,]+){3} +[1-9]\d*$/m);
    expect(code).toBe(0);
    for (const line of output.split('\n')) expect(line.length).toBeLessThanOrEqual(100);
  });

  it.skipIf(NO_SERVER)('ends when interrupted', async () => {
    const demo = start(MAIN, []);
    await demo.line(/relay +admitted/);
    demo.interrupt();
    expect((await demo.ended).code).toBe(130);
  });
});

describe('the verdict', () => {
  const all = (...times: number[]) => times.map((at) => ({ at, cost: 1 }));
  const outcome = (admissions: Outcome['admissions']): Outcome => ({
    ...{ admissions, refused: 10, calls: 1, rateLimit: 1, burstLimit: 2, seconds: 10 },
    away: { from: 4, to: 6 },
  });

  it.each<[times: number[], failed: string[]]>([
    [[0, 0, 1, 5, 7], []],
    [[0, 0, 0, 5, 7], ['the limit was exceeded by 1.00 messages']],
    [[5], ['not even the burst was admitted', 'nothing was admitted after it']],
    [[0, 1, 7], ['nothing was admitted without the store']],
  ])('on messages at %o', (times, failed) => {
    expect(failures(outcome(all(...times)))).toEqual(failed);
    const held = failed.length === 0;
    expect(summary(outcome(all(...times))).includes('The limit held.')).toBe(held);
    expect(summary(outcome(all(...times))).includes('did not hold')).toBe(!held);
  });
});
