// The relay of examples/nostr-relay in four processes that share their limits, with real clients. Rules without `notes` in
// their actions refill so slowly that nothing of them comes back while a test runs. node:cluster gives connections to the
// processes in turn, so four that are opened one after the other are in four processes.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { get } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { json } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { removeShared } from 'relay-limiter';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { sharedNames } from '../dist/engine/shared-paths.js';
import { excess } from '../out/examples/fleet/bound.js';
import type { LoggedCheck } from '../out/examples/nostr-relay/admissions.js';
import { RelayLimits, readLimits } from '../out/examples/nostr-relay/limits.js';
import { unsignedEvent } from '../out/examples/nostr-relay/load.js';
import type { NostrEvent } from '../out/examples/nostr-relay/protocol.js';
import { TESTS_NATIVE } from './support/limiters.js';
import { NostrClient } from './support/nostr-client.js';
import { start } from './support/processes.js';

const MAIN = fileURLToPath(new URL('../out/examples/nostr-relay/main.js', import.meta.url));
const LIMITS = new URL('../examples/nostr-relay/limits.json', import.meta.url);
const WORKERS = 4;
const NEVER = 1e-6;
/** The native engine reuses a reading of the clock for a moment. */
const CLOCK_SECONDS = 1e-4;

const author = (n: number) => n.toString(16).padStart(64, '0');
const PAYING = author(0xa1);

const quiet = { violation: false };
const RULES = {
  connects: { scope: 'address', action: 'connect', rateLimit: 100, burstLimit: 20, ...quiet },
  messages: { scope: 'address', action: 'message', rateLimit: 400, burstLimit: 60, ...quiet },
  bytes: {
    scope: 'connection',
    action: 'message',
    unit: 'bytes',
    rateLimit: 60_000,
    burstLimit: 30_000,
    ...quiet,
  },
  events: { scope: 'address', action: 'note', rateLimit: 120, burstLimit: 30, ...quiet },
  network: { scope: 'network', action: 'note', rateLimit: 160, burstLimit: 40, ...quiet },
  notes: { scope: 'account', action: 'note', rateLimit: 60, burstLimit: 10, ...quiet },
  everybody: { scope: 'server', action: 'note', rateLimit: 200, burstLimit: 50, ...quiet },
  'direct messages': { scope: 'account', action: 'dm', rateLimit: NEVER, burstLimit: 10, ...quiet },
  queries: { scope: 'address', action: 'req', rateLimit: NEVER, burstLimit: 5 },
};
const PAID_NOTES = { rateLimit: 90, burstLimit: 15 };
const FILE = {
  rules: RULES,
  plans: { paid: { notes: PAID_NOTES } },
  authors: { paid: [PAYING] },
  bans: { address: { violations: 3, withinSeconds: 3e6, seconds: 1e6 } },
};

let folder: string;
let path: string;
let log: string;
let port: number;
let relay: ReturnType<typeof start>;
let pids: number[];

async function pidOf(worker: number, verb = 'is'): Promise<number> {
  return Number(await relay.line(new RegExp(`worker ${worker} ${verb} process (\\d+)`)));
}

/** Connections from one address, one in each process. */
async function openInEach(address: string): Promise<NostrClient[]> {
  const clients: NostrClient[] = [];
  for (let n = 0; n < WORKERS; n += 1) clients.push(await NostrClient.open(port, address));
  return clients;
}

let serial = 0;
function event(fields: Partial<NostrEvent> & { pubkey: string }): NostrEvent {
  serial += 1;
  return unsignedEvent({ content: `event ${serial}`, ...fields });
}

/** Publishes direct messages of an author in each process. Resolves with the number of those accepted. */
async function publishInEach(clients: NostrClient[], pubkey: string, count: number) {
  let accepted = 0;
  for (const client of clients) {
    const events = Array.from({ length: count }, () => event({ pubkey, kind: 4 }));
    const reasons = await client.publish(...events);
    accepted += reasons.filter((reason) => reason === '').length;
  }
  return accepted;
}

async function statusesInEach(address: string): Promise<unknown[]> {
  const statuses: unknown[] = [];
  for (let n = 0; n < WORKERS; n += 1) {
    statuses.push((await NostrClient.connect(port, address)).status);
  }
  return statuses;
}

/** The rules that the next processes in turn show. */
async function shownInEach(): Promise<unknown[]> {
  const shown: unknown[] = [];
  for (let n = 0; n < WORKERS; n += 1) {
    const headers = { Accept: 'application/nostr+json' };
    const document = await new Promise<Record<string, unknown>>((resolve, reject) => {
      get({ port, host: '127.0.0.1', headers, agent: false }, (response) => {
        json(response).then((value) => resolve(value as Record<string, unknown>), reject);
      }).on('error', reject);
    });
    shown.push(document['rate_limits']);
  }
  return shown;
}

type Logged = LoggedCheck & { readonly process: number };

function readLog(): Logged[] {
  return readFileSync(log, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
}

function keyOf(scope: string, { keys }: Logged): string {
  if (scope === 'server') return '';
  if (scope === 'network') return String(keys['address']).replace(/\.\d+$/, '');
  return String(keys[scope]);
}

/** Requires that no key of a rule was admitted more than its bucket in any interval. */
function requireBound(name: keyof typeof RULES, checks: readonly Logged[]): void {
  const {
    scope,
    action,
    unit = 'requests',
    ...rule
  } = { ...RULES[name] } as {
    scope: string;
    action: string;
    unit?: string;
    rateLimit: number;
    burstLimit: number;
  };
  const counted = checks
    .filter((check) => check.action === action)
    .map((check) => {
      const { cost } = check;
      const amount = typeof cost === 'number' ? cost : (cost[unit] ?? 0);
      return { from: check.from, at: check.at, cost: amount, key: keyOf(scope, check) };
    });
  expect(counted.length, name).toBeGreaterThan(0);
  for (const key of new Set(counted.map(({ key }) => key))) {
    const admissions = counted.filter((check) => check.key === key);
    const { rateLimit, burstLimit } = name === 'notes' && key === PAYING ? PAID_NOTES : rule;
    const over = excess(admissions, rateLimit, burstLimit);
    expect(over, `${name} of ${key}`).toBeLessThanOrEqual(rateLimit * CLOCK_SECONDS);
  }
}

describe.runIf(TESTS_NATIVE)('The Nostr relay in four processes', () => {
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'relay-limiter-'));
    path = join(folder, 'limits.json');
    log = join(folder, 'admissions.log');
    writeFileSync(path, JSON.stringify(FILE));
    const flags = ['--server-only', '--trusted-proxies', 'loopback', '--config', path];
    relay = start(MAIN, [...flags, '--workers', String(WORKERS), '--log', log]);
    port = Number(await relay.line(/listening on ws:\/\/127\.0\.0\.1:(\d+)/));
    pids = await Promise.all([1, 2, 3, 4].map((worker) => pidOf(worker)));
  });

  afterAll(async () => {
    NostrClient.terminateAll();
    relay.interrupt();
    expect((await relay.ended).code).toBe(0);
    rmSync(folder, { recursive: true, force: true });
    expect(sharedNames().filter((name) => name.startsWith('nostr-relay-'))).toEqual([]);
  });

  test('passes events on between its processes', async () => {
    const clients = await openInEach('10.1.0.1');
    const [first, ...others] = clients as [NostrClient, ...NostrClient[]];
    const processes = readLog().filter(({ keys }) => keys['address'] === '10.1.0.1');
    expect(new Set(processes.map(({ process }) => process))).toEqual(new Set(pids));
    const published = event({ pubkey: author(1), kind: 4 });
    for (const client of others) client.send(['REQ', 's', { ids: [published.id] }]);
    for (const client of others) expect(await client.replies()).toEqual([['EOSE', 's']]);
    expect(await first.publish(published)).toEqual(['']);
    for (const { received } of others) {
      await expect.poll(() => received).toEqual([['EVENT', 's', published]]);
    }
  });

  test('limits an author in all of them together', async () => {
    const clients = await openInEach('10.2.0.1');
    expect(await publishInEach(clients, author(2), 4)).toBe(10);
  });

  test('refuses an address in all of them that one of them has banned', async () => {
    const clients = await openInEach('10.3.0.1');
    const [first, ...others] = clients as [NostrClient, ...NostrClient[]];
    // Five are admitted; a level drains a little between the refusals, so the fourth one begins the ban at the latest.
    for (let n = 0; n < 9; n += 1) first.send(['REQ', 's', { ids: [] }]);
    expect((await first.closed).reason).toMatch(/^blocked: banned, /);
    for (const client of others) {
      client.send(['CLOSE', 's']);
      expect((await client.closed).reason).toMatch(/^blocked: banned, /);
    }
    expect(await statusesInEach('10.3.0.1')).toEqual([429, 429, 429, 429]);
  });

  test('never admits more than its rules, while a process is killed', async () => {
    const addresses = ['10.4.0.1', '10.4.0.2', '10.5.0.1'];
    const authors = [author(4), author(5), author(6), PAYING];
    let sent = 0;
    let halfSent = () => {};
    const half = new Promise<void>((resolve) => {
      halfSent = resolve;
    });
    const replaced = half.then(async () => {
      process.kill(pids[0] as number, 'SIGKILL');
      pids[0] = await pidOf(1, 'has ended \\(SIGKILL\\) and is now');
    });
    const flood = async (address: string, first: NostrClient) => {
      let client = first;
      for (let batch = 0; batch < 20; batch += 1) {
        const pubkey = authors[batch % authors.length] as string;
        for (let n = 0; n < 20; n += 1) client.send(['EVENT', event({ pubkey })]);
        const isLost = await Promise.race([
          client.replies().then(() => false),
          client.closed.then(() => true),
        ]);
        sent += 1;
        if (sent === 120) halfSent();
        if (!isLost) continue;
        // A connection that node:cluster gives to a process that has just ended is never answered.
        await replaced;
        client = await NostrClient.open(port, address);
      }
    };
    const peers: [address: string, client: NostrClient][] = [];
    for (const address of addresses) {
      for (const client of await openInEach(address)) peers.push([address, client]);
    }
    await Promise.all([replaced, ...peers.map(([address, client]) => flood(address, client))]);
    const checks = readLog();
    for (const rule of Object.keys(RULES)) requireBound(rule as keyof typeof RULES, checks);
  });

  test('loses neither limits nor events with the process', async () => {
    const clients = await openInEach('10.6.0.1');
    const checks = readLog().filter(({ keys }) => keys['address'] === '10.6.0.1');
    expect(new Set(checks.map(({ process }) => process))).toEqual(new Set(pids));
    expect(await publishInEach(clients, author(2), 1)).toBe(0);
    expect(await statusesInEach('10.3.0.1')).toEqual([429, 429, 429, 429]);
    for (const client of clients) {
      client.send(['REQ', 's', { authors: [author(1)] }]);
      expect((await client.replies()).map(([verb]) => verb)).toEqual(['EVENT', 'EOSE']);
    }
  });

  test.each([
    ['the primary', 14, 2],
    ['a worker', 16, 3],
  ])('changes its limits in all of them on SIGHUP to %s', async (target, burstLimit, version) => {
    const directMessages = { ...RULES['direct messages'], burstLimit };
    const rules = { ...RULES, 'direct messages': directMessages };
    writeFileSync(path, JSON.stringify({ ...FILE, rules, plans: {}, authors: {} }));
    if (target === 'the primary') relay.signal('SIGHUP');
    else process.kill(pids[1] as number, 'SIGHUP');
    await relay.line(new RegExp(`limits, version ${version}: (9) rules`));
    const clients = await openInEach(`10.7.${version}.1`);
    // Ten are used, and then fourteen.
    expect(await publishInEach(clients, author(2), 4)).toBe(version === 2 ? 4 : 2);
    const shown = JSON.parse(JSON.stringify(rules));
    await expect.poll(shownInEach).toEqual(Array(WORKERS).fill(shown));
  });

  test('keeps its limits on SIGHUP if the file is wrong', async () => {
    writeFileSync(path, JSON.stringify({ ...FILE, rules: { notes: { scope: 'nobody' } } }));
    process.kill(pids[1] as number, 'SIGHUP');
    await relay.line(/(limits, version 3 stays: rules\.notes)/);
    const clients = await openInEach('10.8.0.1');
    expect(await publishInEach(clients, author(2), 1)).toBe(0);
  });
});

describe.runIf(TESTS_NATIVE)('RelayLimits of the Nostr relay', () => {
  test('check an author by the base rules if another process has removed the plan', () => {
    const shared = `nostr-limits-${process.pid}`;
    const file = join(mkdtempSync(join(tmpdir(), 'relay-limiter-')), 'limits.json');
    try {
      writeFileSync(file, JSON.stringify(FILE));
      const [first, second] = [0, 1].map(() => new RelayLimits(readLimits(file), { shared })) as [
        RelayLimits,
        RelayLimits,
      ];
      writeFileSync(file, JSON.stringify({ ...FILE, plans: {}, authors: {} }));
      first.update(readLimits(file));
      expect(second.checkEvent({}, PAYING, 'note').outcome).toBe('allow');
      first.limiter.charge({ account: PAYING }, RULES.notes.burstLimit, 'note');
      expect(second.checkEvent({}, PAYING, 'note')).toMatchObject({ rule: 'notes' });
      for (const { limiter } of [first, second]) limiter.close();
    } finally {
      removeShared(shared);
      rmSync(join(file, '..'), { recursive: true, force: true });
    }
  });

  test('refuse a table without the native engine', () => {
    const file = readLimits(fileURLToPath(LIMITS));
    expect(() => new RelayLimits(file, { engine: 'js', shared: 'x' })).toThrow(
      expect.objectContaining({ code: 'ERR_LIMITER_ENGINE' }),
    );
  });
});
