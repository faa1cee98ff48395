// `npm run demo:fleet`: its flags and exit codes, and the demonstration itself, which continues until each of its parts
// has been seen, however slow the machine is.

import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { ROOT, start } from '../support/processes.js';
import { NO_SERVER } from './support/store.js';

const MAIN = fileURLToPath(new URL('../../out/examples/fleet/main.js', import.meta.url));

describe('npm run demo:fleet', () => {
  it('lists its flags with --help', async () => {
    const { code, output } = await start(MAIN, ['--help']).ended;
    expect(code).toBe(0);
    expect(output).toContain('--seconds N');
  });

  it('exits with 2 for an invalid flag, and refers to --help', async () => {
    const { code, output } = await start(MAIN, ['--seconds', '3']).ended;
    expect(code).toBe(2);
    expect(output).toMatch(/^demo:fleet: .+ \(npm run demo:fleet -- --help\)\n$/);
  });

  it('exits with 1 without a server, and says how to install one', async () => {
    const { PATH, REDIS_URL } = process.env;
    process.env['PATH'] = ROOT;
    delete process.env['REDIS_URL'];
    const { code, output } = await start(MAIN, []).ended;
    Object.assign(process.env, { PATH }, REDIS_URL && { REDIS_URL });
    expect(code).toBe(1);
    expect(output).toContain('apt-get install redis-server');
  });

  it.skipIf(NO_SERVER)('shows that the limit holds without the store', async () => {
    const { code, output } = await start(MAIN, ['--seconds', '4', '--flood', '300']).ended;
    expect(output).toContain('The limit held.');
    expect(output).toMatch(/^[█░]+│ [\d,]+ of at most [\d,]+: \d+%\n\nadmitted by all four/m);
    expect(output).toMatch(/admitted without the store +[1-9]/);
    expect(code).toBe(0);
    for (const line of output.split('\n')) expect(line.length).toBeLessThanOrEqual(100);
  });

  it.skipIf(NO_SERVER)('exits with 130 if it is interrupted', async () => {
    const demo = start(MAIN, ['--flood', '100']);
    await demo.line(/relay +admitted/);
    demo.interrupt();
    expect((await demo.ended).code).toBe(130);
  });
});
