// What `npm start` runs, end to end: flags, exit codes, interruption, and the demonstration itself.

import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { NO_GUARD } from '../out/examples/relay/guard.js';
import { Relay } from '../out/examples/relay/relay.js';
import { events, lift } from './dashboard/support.js';
import { start } from './support/processes.js';
import { REAL_TIME } from './support/real-time.js';
import { Client } from './support/relay-client.js';

const MAIN = fileURLToPath(new URL('../out/examples/relay/main.js', import.meta.url));

describe('the command', REAL_TIME, () => {
  it('lists its flags', async () => {
    const { code, output } = await start(MAIN, ['--help']).ended;
    expect(code).toBe(0);
    for (const flag of ['--peers', '--seconds', '--engine', '--port', '--server-only', '--keep']) {
      expect(output).toContain(flag);
    }
  });

  it.each([
    '--peers many',
    '--seconds 600',
    '--engine rust',
    '--port 65536',
    '--dashboard-port 65536',
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
    const page = await fetch(String(await server.line(/watch it at (\S+)/)));
    expect(await page.text()).toContain('<main>');
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

  it('shows its page on another port where that is taken', async () => {
    const taken = createServer().listen(0, '127.0.0.1');
    await once(taken, 'listening');
    const { port } = taken.address() as AddressInfo;
    const server = start(MAIN, ['--server-only', '--dashboard-port', String(port)]);
    const url = String(await server.line(/watch it at (\S+)/));
    expect(new URL(url).port).not.toBe(String(port));
    expect((await fetch(url)).status).toBe(200);
    taken.close();
    server.interrupt();
    expect((await server.ended).code).toBe(0);
  });

  // It runs in real time: a machine that stands still for a second in the middle is given another try.
  it('shows that the guard does its job', { timeout: 30_000, retry: 2 }, async () => {
    const flags = ['--peers', '5', '--seconds', '2', '--dashboard-port', '0', '--keep'];
    const demo = start(MAIN, flags);
    const url = String(await demo.line(/watch it at (\S+)/));
    await demo.line(/(Ctrl-C) ends them/);
    // The attack is over, and the page still tells of it.
    const stream = await events(url);
    const hello = await stream.next('hello');
    const { samples } = hello;
    const refused = samples.flatMap(({ limiters }) => limiters.map((each) => each?.[1] ?? 0));
    expect(Math.max(...refused)).toBeGreaterThan(10);
    // Addresses are banned by now, and the page can lift that.
    const { limiters, listing } = hello;
    const [banned] = listing.bans;
    expect(banned?.key).toMatch(/^127\.0\./);
    const limiter = limiters[banned?.limiter ?? 0]?.name;
    expect(limiter).toBe('expulsions');
    expect((await lift(url, { limiter, key: banned?.key })).status).toBe(204);
    demo.interrupt();
    const { code, output } = await demo.ended;
    expect(output).toContain('The guard did its job');
    expect(code).toBe(0);
    for (const line of output.split('\n')) expect(line.length).toBeLessThanOrEqual(100);
  });
});
