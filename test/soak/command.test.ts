// What `npm run soak` runs, end to end: flags, exit codes, interruption.

import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { start } from '../support/processes.js';

const MAIN = fileURLToPath(new URL('../../out/soak/main.js', import.meta.url));

describe('the command', () => {
  it('ends with a summary and exit code 0', async () => {
    const { code, output } = await start(MAIN, ['--seconds', '2', '--flood', '70']).ended;
    expect(output).toMatch(/flood of 140,000 keys, js/);
    expect(output).toMatch(/operations +[\d,]+\n/);
    expect(output).toMatch(/\nno difference\n$/);
    expect(code).toBe(0);
  });

  it('ends early when it is interrupted, with the summary', async () => {
    const soak = start(MAIN, ['--seconds', '60', '--flood', '0']);
    await soak.line(/\n +1 /);
    soak.interrupt();
    const { code, output } = await soak.ended;
    expect(output).toMatch(/operations +[\d,]+\n/);
    expect(code).toBe(130);
  });

  it.each(['--seconds 0', '--seed x', '--engine rust', '--flood', '--frobnicate', 'surplus'])(
    'refuses %s',
    async (args) => {
      const { code, output } = await start(MAIN, args.split(' ')).ended;
      expect(code).toBe(2);
      expect(output).toMatch(/^soak: .+ \(npm run soak -- --help lists the flags\)\n$/);
    },
  );
});
