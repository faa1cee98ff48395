// WARN_LIMITER_CLUSTER says that each worker has limits of its own, which limiters with the option `shared` have not.

import cluster from 'node:cluster';
import { mkdtempSync, rmSync } from 'node:fs';
import { Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';

let http: typeof import('relay-limiter/http');
let net: typeof import('relay-limiter/net');
let limiters: typeof import('relay-limiter');
const codes: unknown[] = [];
const messages: string[] = [];
let folder: string;

// The package remembers per process which warnings it has emitted, so each test loads it again.
beforeEach(async () => {
  vi.resetModules();
  http = await import('relay-limiter/http');
  net = await import('relay-limiter/net');
  limiters = await import('relay-limiter');
  codes.length = 0;
  messages.length = 0;
  const emit = vi.spyOn(process, 'emitWarning').mockImplementation((message, options) => {
    codes.push((options as { code: string }).code);
    messages.push(String(message));
  });
  const { isWorker } = cluster;
  Object.assign(cluster, { isWorker: true });
  folder = mkdtempSync(join(tmpdir(), 'relay-limiter-test-'));
  return () => {
    emit.mockRestore();
    Object.assign(cluster, { isWorker });
    rmSync(folder, { recursive: true });
  };
});
afterAll(() => void vi.resetModules());

/** An OrderbookRateLimiter, which leaves its table when the test ends. */
function bans(shared?: string) {
  const limiter = new limiters.OrderbookRateLimiter({ maxPeers: 1000, shared });
  return leaving(limiter);
}

function rules(shared?: string) {
  const limiter = new limiters.RuleLimiter({
    scopes: { address: { kind: 'address' } },
    rules: { requests: { scope: 'address', rateLimit: 5 } },
    maxPeers: 1000,
    shared,
  });
  return leaving(limiter);
}

function leaving<Limiter extends { close(): void }>(limiter: Limiter): Limiter {
  onTestFinished(() => {
    limiter.close();
    limiter.close();
  });
  return limiter;
}

type Use = [what: string, option: string, use: (shared?: string) => unknown];

const USES: Use[] = [
  ['a middleware', 'limiter', (shared) => http.rateLimit({ limiter: bans(shared) })],
  [
    'a limit of a middleware',
    'limit',
    (shared) => leaving(http.rateLimit({ limit: 5, maxPeers: 1000, shared })),
  ],
  ['a middleware by rules', 'limiter', (shared) => http.rateLimit({ limiter: rules(shared) })],
  [
    'limits on connects',
    'connections.limiter',
    (shared) => guard({ connections: { limiter: bans(shared) } }),
  ],
  [
    'messages of an address',
    'messages',
    (shared) => guard({ messages: { limiter: bans(shared), key: 'address' } }),
  ],
  [
    'messages by key',
    'messages',
    (shared) => guard({ messages: { limiter: bans(shared), key: () => 'all' } }),
  ],
  ['expulsions', 'expulsions', (shared) => guard({ expulsions: bans(shared) })],
  ['a guard by rules', 'limiter', (shared) => guard({ limiter: rules(shared) })],
];

function guard(options: object) {
  return net.guardLineServer(new Server(), options);
}

describe('WARN_LIMITER_CLUSTER', () => {
  test.each(USES)('is not emitted for %s with a shared limiter', (_, option, use) => {
    use(join(folder, 'table'));
    expect(codes).toEqual([]);
    use();
    expect(codes).toEqual(['WARN_LIMITER_CLUSTER']);
    expect(messages[0]).toMatch(new RegExp(` This concerns ${option}$`));
  });

  test('names the limit that a middleware creates', () => {
    leaving(http.rateLimit({ limit: 5 }));
    expect(messages[0]).toMatch(/ This concerns limit$/);
  });

  test('is emitted for open connections, which each worker counts, and names them', () => {
    const limiter = bans(join(folder, 'table'));
    guard({ connections: { limiter, maxPerAddress: 5, maxPerServer: 50 } });
    expect(codes).toEqual(['WARN_LIMITER_CLUSTER']);
    expect(messages[0]).toMatch(/ connections\.maxPerAddress, connections\.maxPerServer$/);
  });
});
