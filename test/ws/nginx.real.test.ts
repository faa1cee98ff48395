// The configurations of nginx in docs/servers.md, on nginx itself: a guard behind it sees each client's own address.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, get } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { RateLimiter } from 'relay-limiter';
import { guardConnections } from 'relay-limiter/net';
import { afterEach, describe, expect, test } from 'vitest';
import { hasEnded, reservePort } from '../../out/examples/fleet/server.js';
import { until } from '../support/sockets.js';
import { client, closing, connected, guarded, refusal, stopAll } from './support.js';

const DOCS = readFileSync(new URL('../../docs/servers.md', import.meta.url), 'utf8');
const [HTTP = '', STREAM = ''] = [...DOCS.matchAll(/```nginx\n(.*?)```/gs)].map(([, text]) => text);
/** On Linux every address of the loopback network can be used. */
const folderOfNginx = (process.env['PATH'] ?? '')
  .split(delimiter)
  .find((folder) => process.platform === 'linux' && existsSync(join(folder, 'nginx')));
const STREAM_MODULE = join(folderOfNginx ?? '/', '../lib/nginx/modules/ngx_stream_module.so');
const ALICE = '127.0.0.2';
const BOB = '127.0.0.3';

const folders: string[] = [];
const running: ChildProcess[] = [];
const releases: (() => void)[] = [];

afterEach(async () => {
  stopAll();
  for (const child of running.splice(0)) {
    const ended = once(child, 'exit');
    child.kill('SIGTERM');
    await ended;
  }
  for (const release of releases.splice(0)) release();
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

/** Starts nginx with a server of the documentation in front of a port, and returns the port of nginx. */
async function proxy(kind: 'http' | 'stream', server: string, to: number): Promise<number> {
  const { port, release } = await reservePort();
  releases.push(release);
  await start(kind, server, port, to);
  return port;
}

async function start(kind: string, server: string, port: number, to: number): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'relay-limiter-nginx-'));
  folders.push(folder);
  const own = server
    .replace(/listen 443( ssl)?;/, `listen 127.0.0.1:${port};`)
    .replace(/ +ssl_.*\n/g, '')
    .replace(/127\.0\.0\.1:8\d+/, `127.0.0.1:${to}`);
  const paths = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'];
  const temporary = paths.map((name) => `${name}_temp_path ${folder}/${name};`).join(' ');
  const log = `${folder}/error.log`;
  // nginx writes this file when it listens.
  const pid = `${folder}/pid`;
  const config = `
    ${kind === 'stream' ? `load_module ${STREAM_MODULE};` : ''}
    daemon off; master_process off; pid ${pid}; error_log ${log};
    events {}
    ${kind} { ${kind === 'http' ? `access_log off; ${temporary}` : ''} ${own} }`;
  writeFileSync(`${folder}/nginx.conf`, config);
  const args = ['-p', folder, '-e', log, '-c', `${folder}/nginx.conf`];
  const child = spawn('nginx', args, { stdio: 'ignore' });
  await until(() => existsSync(pid) || hasEnded(child));
  if (hasEnded(child)) throw new Error(readFileSync(log, 'utf8'));
  running.push(child);
}

test('The documentation has two configurations of nginx', () => {
  expect(HTTP).toContain('X-Forwarded-For $remote_addr');
  expect(STREAM).toContain('proxy_protocol on');
});

describe('A guard behind nginx', () => {
  test.runIf(folderOfNginx !== undefined)(
    'limits each client by its own address, whatever the client says',
    async () => {
      const { port, verdicts, received } = await guarded({
        trustedProxies: 'loopback',
        connections: { maxPerAddress: 1 },
        messages: { key: 'address', limiter: new RateLimiter({ rateLimit: 1e-6, burstLimit: 2 }) },
      });
      const front = await proxy('http', HTTP, port);
      const from = (localAddress: string, spoofed: string) =>
        connected(front, { localAddress, headers: { 'X-Forwarded-For': spoofed } });
      const alice = await from(ALICE, '192.0.2.1');
      const bob = await from(BOB, '192.0.2.1');
      for (const peer of [alice, bob]) for (const text of ['1', '2', '3']) peer.send(text);
      const dropped = () => verdicts.filter(({ did }) => did === 'dropped').map(({ key }) => key);
      await until(() => dropped().length === 2);
      expect(received.sort()).toEqual(['1', '1', '2', '2']);
      expect(dropped().sort()).toEqual([ALICE, BOB]);
      expect(await refusal(client(front, { localAddress: ALICE }))).toEqual({
        status: 429,
        retryAfter: '10',
      });
      alice.close();
      await closing(alice);
    },
  );

  test.runIf(existsSync(STREAM_MODULE))(
    'of TCP connections gets the addresses from the PROXY protocol',
    async () => {
      const server = createServer((request, response) => {
        response.end(request.socket.remoteAddress);
      });
      const guard = guardConnections(server, {
        connections: { maxPerAddress: 1 },
        proxyProtocol: { trustedProxies: ['127.0.0.1'] },
      });
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
      const front = await proxy('stream', STREAM, (server.address() as AddressInfo).port);
      const ask = (localAddress: string) =>
        new Promise<string>((resolve, reject) => {
          const options = { host: '127.0.0.1', port: front, localAddress, agent: false };
          get(options, async (response) => {
            let text = '';
            for await (const chunk of response) text += chunk;
            resolve(text);
          }).once('error', reject);
        });
      expect(await ask(ALICE)).toBe(ALICE);
      expect(await ask(BOB)).toBe(BOB);
      guard.close();
      server.close();
    },
  );
});
