// What `npm start` runs, end to end: exit codes, interruption, the page, and the demonstration itself.

import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { NO_GUARD } from '../out/examples/relay/guard.js';
import { Relay } from '../out/examples/relay/relay.js';
import { events, lift } from './dashboard/support.js';
import { start } from './support/processes.js';
import { Client } from './support/relay-client.js';

const MAIN = fileURLToPath(new URL('../out/examples/relay/main.js', import.meta.url));

describe('the command', () => {
  it('lists its flags', async () => {
    const { code, output } = await start(MAIN, ['--help']).ended;
    expect(code).toBe(0);
    for (const flag of ['--peers', '--seconds', '--engine', '--port', '--server-only', '--keep']) {
      expect(output).toContain(flag);
    }
  });

  it('refuses a wrong flag with 2, and says where to find the right ones', async () => {
    const { code, output } = await start(MAIN, ['--peers', 'many']).ended;
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

  it('shows on its page who is banned, and lifts it there', async () => {
    const server = start(MAIN, ['--server-only', '--dashboard-port', '0']);
    const port = Number(await server.line(/listening on ws:\/\/127\.0\.0\.1:(\d+)/));
    const url = String(await server.line(/watch it at (\S+)/));
    // Each flood ends with an expulsion, and the third expulsion bans the address.
    while ((await flood(port)) !== 429);
    const stream = await events(url);
    const { limiters, listing } = await stream.next('hello');
    const [banned] = listing.bans;
    expect(limiters[banned?.limiter ?? 0]?.name).toBe('expulsions');
    expect(banned?.key).toBe('127.0.0.1');
    const what = { limiter: 'expulsions', key: '127.0.0.1' };
    expect((await lift(url, what)).status).toBe(204);
    await Client.join(port, 'ann');
    server.interrupt();
    expect((await server.ended).code).toBe(0);
  });

  it('says at the end of a demonstration whether the guard did its job, and exits accordingly', async () => {
    const flags = ['--peers', '2', '--seconds', '1', '--dashboard-port', '0', '--keep'];
    const demo = start(MAIN, flags);
    // Its address comes first; the dashboard opens there when the guard is on.
    const url = String(await demo.line(/^watch it at (\S+)/));
    expect(await (await fetch(url)).text()).toContain('The dashboard opens here');
    await demo.line(/(Ctrl-C) ends them/);
    // The attack is over, and the page still tells of it.
    const stream = await events(url);
    const { samples } = await stream.next('hello');
    expect(samples).not.toEqual([]);
    demo.interrupt();
    const { code, output } = await demo.ended;
    const [, failed, reasons] = /^The guard did (not do )?its job: (.+)\.$/m.exec(output) ?? [];
    expect(reasons).toBeDefined();
    expect(code).toBe(failed === undefined ? 0 : 1);
    // A busy machine may cost honest peers messages and time, but it lets no attacker go on.
    if (failed !== undefined) {
      for (const reason of reasons?.split('; ') ?? []) {
        expect(reason).toMatch(/^honest peers (lost|waited)|^deliveries were not clearly faster$/);
      }
    }
  });

  it('claims no more addresses than there are, where all have one', async () => {
    const flags = ['--one-address', '--peers', '2', '--seconds', '1', '--dashboard-port', '0'];
    const { output } = await start(MAIN, flags).ended;
    expect(output).toContain('All connect from 127.0.0.1.');
    expect(output).toMatch(/attackers' messages received +[\d,]+ +[\d,]+\n/);
    expect(output).not.toMatch(/from \d+ addresses/);
  });
});

/** Sends far more than is allowed; resolves with how that ended. */
async function flood(port: number): Promise<number> {
  const client = new Client(port);
  const refusal = client.refusal().catch(() => undefined);
  await Promise.race([refusal, once(client.socket, 'open').catch(() => {})]);
  if (client.socket.readyState === WebSocket.OPEN) {
    for (let n = 0; n < 1000; n += 1) client.send({ type: 'public', text: `spam ${n}` });
    return (await client.closed).code;
  }
  return (await refusal) ?? 0;
}
