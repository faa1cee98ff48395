// What `npm run soak` runs, end to end: its summary, exit codes, interruption.

import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { start } from '../support/processes.js';

const MAIN = fileURLToPath(new URL('../../out/soak/main.js', import.meta.url));

describe('the soak command', () => {
  it('ends with a summary and exit code 0', async () => {
    const flags = ['--operations', '20000', '--flood', '5', '--engine', 'js'];
    const { code, output } = await start(MAIN, flags).ended;
    expect(output).toMatch(/flood of 10,000 keys, js/);
    const operations = /operations +([\d,]+)\n/.exec(output)?.[1]?.replaceAll(',', '');
    expect(Number(operations)).toBeGreaterThanOrEqual(20_000);
    // One round is too short to say anything of memory.
    expect(output).toMatch(/\nmemory: not compared/);
    expect(output).toMatch(/\nno difference\n$/);
    expect(code).toBe(0);
  });

  it('ends early when it is interrupted, with the summary', async () => {
    const soak = start(MAIN, ['--operations', '1000000000', '--flood', '0', '--engine', 'js']);
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
});
