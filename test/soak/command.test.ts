// What `npm run soak` runs, end to end: flags, exit codes, interruption.

import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { WrongFlag } from '../../examples/command-line.js';
import { readFlags } from '../../soak/flags.js';
import { start } from '../support/processes.js';
import { REAL_TIME } from '../support/real-time.js';

const MAIN = fileURLToPath(new URL('../../out/soak/main.js', import.meta.url));

describe('the command', REAL_TIME, () => {
  it('ends with a summary and exit code 0, a whole round done', async () => {
    const flags = ['--seconds', '1', '--flood', '65', '--engine', 'js'];
    const { code, output } = await start(MAIN, flags).ended;
    expect(output).toMatch(/flood of 130,000 keys, js/);
    expect(Number(/operations +([\d,]+)\n/.exec(output)?.[1]?.replaceAll(',', ''))).toBeGreaterThan(
      1e5,
    );
    expect(output).toMatch(/\nmemory: /);
    expect(output).toMatch(/\nno difference\n$/);
    expect(code).toBe(0);
  });

  it('ends early when it is interrupted, with the summary', async () => {
    const soak = start(MAIN, ['--seconds', '60', '--flood', '0']);
    await soak.line(/\n +\d+ /);
    soak.interrupt();
    const { code, output } = await soak.ended;
    expect(output).toMatch(/operations +[\d,]+\n/);
    expect(code).toBe(130);
  });

  it('ends with 2 for a wrong flag', async () => {
    const { code, output } = await start(MAIN, ['--seconds', '0']).ended;
    expect(code).toBe(2);
    expect(output).toMatch(/^soak: .+ \(npm run soak -- --help lists the flags\)\n$/);
  });

  it.each(['--seconds 0', '--seed x', '--engine rust', '--flood', '--frobnicate', 'surplus'])(
    'refuses %s',
    (args) => {
      expect(() => readFlags(args.split(' '))).toThrow(WrongFlag);
    },
  );
});
