// What `npm start` runs, end to end: flags, exit codes, interruption, and the demonstration itself.

import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { NO_GUARD } from '../out/examples/relay/guard.js';
import { Relay } from '../out/examples/relay/relay.js';
import { start } from './support/processes.js';
import { Client } from './support/relay-client.js';

const MAIN = fileURLToPath(new URL('../out/examples/relay/main.js', import.meta.url));

describe('the command', () => {
  it('lists its flags', async () => {
    const { code, output } = await start(MAIN, ['--help']).ended;
    expect(code).toBe(0);
    for (const flag of ['--peers', '--seconds', '--engine', '--port', '--server-only']) {
      expect(output).toContain(flag);
    }
  });

  it.each([
    '--peers many',
    '--seconds 600',
    '--engine rust',
    '--port 65536',
    '--port',
    '--frobnicate',
    'surplus',
  ])('refuses %s', async (args) => {
    const { code, output } = await start(MAIN, args.split(' ')).ended;
    expect(code).toBe(2);
    expect(output).toMatch(/^relay: .+ \(npm start -- --help lists the flags\)\n$/);
  });

  it('says when the port is taken', async () => {
    const relay = await Relay.listen(0, NO_GUARD);
    const { code, output } = await start(MAIN, ['--server-only', '--port', String(relay.port)])
      .ended;
    expect(code).toBe(1);
    expect(output).toMatch(/EADDRINUSE/);
    const demo = await start(MAIN, ['--port', String(relay.port)]).ended;
    expect(demo.code).toBe(1);
    expect(demo.output).toMatch(/EADDRINUSE/);
    relay.close();
  });

  it('runs the relay alone until it is interrupted', async () => {
    const server = start(MAIN, ['--server-only']);
    const port = Number(await server.line(/listening on ws:\/\/127\.0\.0\.1:(\d+)/));
    const ann = await Client.join(port, 'ann');
    server.interrupt();
    expect((await server.ended).code).toBe(0);
    await ann.closed;
  });

  it('ends in the middle of the demonstration when interrupted', async () => {
    const demo = start(MAIN, ['--peers', '2']);
    await demo.line(/off +1 /);
    demo.interrupt();
    expect((await demo.ended).code).toBe(130);
  });

  // It runs in real time: a machine that stands still for a second in the middle is given another try.
  it('shows that the guard does its job', { timeout: 30_000, retry: 2 }, async () => {
    const { code, output } = await start(MAIN, ['--peers', '5', '--seconds', '2']).ended;
    expect(output).toContain('The guard did its job');
    expect(code).toBe(0);
    for (const line of output.split('\n')) expect(line.length).toBeLessThanOrEqual(100);
  });
});
