// What `npm start` runs, end to end: flags, exit codes, interruption, and the demonstration itself.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { NO_GUARD } from '../out/examples/relay/guard.js';
import { Relay } from '../out/examples/relay/relay.js';
import { Client } from './support/relay-client.js';

const MAIN = fileURLToPath(new URL('../out/examples/relay/main.js', import.meta.url));

describe('the command', () => {
  it('lists its flags', async () => {
    const { code, output } = await run(['--help']);
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
    const { code, output } = await run(args.split(' '));
    expect(code).toBe(2);
    expect(output).toMatch(/^relay: .+ \(npm start -- --help lists the flags\)\n$/);
  });

  it('says when the port is taken', async () => {
    const relay = await Relay.listen(0, NO_GUARD);
    const { code, output } = await run(['--server-only', '--port', String(relay.port)]);
    expect(code).toBe(1);
    expect(output).toMatch(/EADDRINUSE/);
    const demo = await run(['--port', String(relay.port)]);
    expect(demo.code).toBe(1);
    expect(demo.output).toMatch(/EADDRINUSE/);
    relay.close();
  });

  it('runs the relay alone until it is interrupted', async () => {
    const server = start(['--server-only']);
    const port = Number(await server.line(/listening on ws:\/\/127\.0\.0\.1:(\d+)/));
    const ann = await Client.join(port, 'ann');
    server.interrupt();
    expect(await server.ended).toBe(0);
    await ann.closed;
  });

  it('ends in the middle of the demonstration when interrupted', async () => {
    const demo = start(['--peers', '2']);
    await demo.line(/off +1 /);
    demo.interrupt();
    expect(await demo.ended).toBe(130);
  });

  // It runs in real time: a machine that stands still for a second in the middle is given another try.
  it('shows that the guard does its job', { timeout: 30_000, retry: 2 }, async () => {
    const { code, output } = await run(['--peers', '5', '--seconds', '2']);
    expect(output).toContain('The guard did its job');
    expect(code).toBe(0);
    for (const line of output.split('\n')) expect(line.length).toBeLessThanOrEqual(100);
  });
});

async function run(args: string[]): Promise<{ code: number; output: string }> {
  const process = start(args);
  const code = await process.ended;
  return { code, output: process.output() };
}

function start(args: string[]) {
  const child = spawn(process.execPath, [MAIN, ...args]);
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text) => {
      output += text;
    });
  }
  return {
    output: () => output,
    interrupt: () => child.kill('SIGINT'),
    ended: once(child, 'close').then(([code]) => Number(code)),
    /** Resolves with what the pattern captures, once it is printed. */
    async line(pattern: RegExp): Promise<string | undefined> {
      for (;;) {
        const match = pattern.exec(output);
        if (match) return match[1];
        await once(child.stdout, 'data');
      }
    },
  };
}
