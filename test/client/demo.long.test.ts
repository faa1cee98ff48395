// The command `npm run demo:client`: its exit codes, its servers and the demonstration itself.

import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { start } from '../support/processes.js';

const MAIN = fileURLToPath(new URL('../../out/examples/client/main.js', import.meta.url));

describe('the client demonstration', () => {
  it('lists its flags', async () => {
    const { code, output } = await start(MAIN, ['--help']).ended;
    expect(code).toBe(0);
    expect(output).toContain('--requests N');
  });

  it('exits with 2 for an invalid flag', async () => {
    const { code, output } = await start(MAIN, ['--requests', '0']).ended;
    expect(code).toBe(2);
    expect(output).toMatch(/^demo:client: .+ \(npm run demo:client -- --help\)\n$/);
  });

  it('ends when interrupted', async () => {
    const demo = start(MAIN, []);
    await demo.line(/draft 11/);
    demo.interrupt();
    expect((await demo.ended).code).toBe(130);
  });

  it('answers all requests and reports that the promise is kept', async () => {
    // Fewer requests than the smallest quota, so no server can refuse one, however slow the machine is.
    const { code, output } = await start(MAIN, ['--requests', '300']).ended;
    expect(output).toContain('relay-limiter kept its promise');
    expect(output).toMatch(/429 in all +0 +0\n/);
    expect(output).toMatch(/requests answered +300 +300\n/);
    expect(code).toBe(0);
    for (const line of output.split('\n')) expect(line.length).toBeLessThanOrEqual(100);
  });
});
