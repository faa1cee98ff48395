// The relay of examples/nostr-relay as a process, with real clients. Its limits are those of limits.json, but with windows
// a million times as long, so that nothing is refilled while a test runs. A client's address is in X-Forwarded-For.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { BanPolicy, RuleSections } from 'relay-limiter';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { unsignedEvent } from '../out/examples/nostr-relay/load.js';
import type { NostrEvent } from '../out/examples/nostr-relay/protocol.js';
import { NostrClient } from './support/nostr-client.js';
import { start } from './support/processes.js';

const MAIN = fileURLToPath(new URL('../out/examples/nostr-relay/main.js', import.meta.url));
const LIMITS = new URL('../examples/nostr-relay/limits.json', import.meta.url);
const STRETCH = 1e6;

type File = { [Name in keyof RuleSections]-?: NonNullable<RuleSections[Name]> } & {
  authors: Record<string, string[]>;
};

const example: File = JSON.parse(readFileSync(LIMITS, 'utf8'));
const author = (n: number) => n.toString(16).padStart(64, '0');
const PAYING = example.authors['paid']?.[0] ?? '';
const OPERATOR = example.allow['account']?.[0] ?? '';
const ALLOWED_ADDRESS = example.allow['address']?.[0] ?? '';
const HOURLY = author(0xa1);
const DAILY = author(0xa2);
const DENIED = author(0xa3);

function stretched(): File {
  const rules = Object.entries(example.rules).map(([name, rule]) => {
    const { windowSeconds, rateLimit } = rule;
    if (windowSeconds !== undefined)
      return [name, { ...rule, windowSeconds: windowSeconds * STRETCH }];
    return [name, { burstLimit: 1000, ...rule, rateLimit: (rateLimit ?? 1) / STRETCH }];
  });
  const { withinSeconds, seconds, ...ban } = example.bans['address'] as BanPolicy;
  const lengths = [seconds].flat().map((length) => length * STRETCH);
  const network = { ...example.rules['network'], windowSeconds: 60 * STRETCH, quota: 30 };
  return {
    ...example,
    rules: { ...Object.fromEntries(rules), network },
    plans: {
      ...example.plans,
      hourly: { notes: null },
      daily: { notes: null, 'events per hour': null, 'events per day': { quota: 50 } },
    },
    authors: { ...example.authors, hourly: [HOURLY], daily: [DAILY] },
    bans: { address: { ...ban, withinSeconds: withinSeconds * STRETCH, seconds: lengths } },
    deny: { ...example.deny, account: [DENIED] },
  };
}

let folder: string;
let path: string;
let port: number;
let relay: ReturnType<typeof start>;
const file = stretched();

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'relay-limiter-'));
  path = join(folder, 'limits.json');
  writeFileSync(path, JSON.stringify(file));
  relay = start(MAIN, ['--server-only', '--trusted-proxies', 'loopback', '--config', path]);
  port = Number(await relay.line(/listening on ws:\/\/127\.0\.0\.1:(\d+)/));
});

afterAll(async () => {
  NostrClient.terminateAll();
  relay.interrupt();
  expect((await relay.ended).code).toBe(0);
  rmSync(folder, { recursive: true, force: true });
});

const open = (address: string) => NostrClient.open(port, address);
const connect = (address: string) => NostrClient.connect(port, address);

async function connectTimes(times: number, address: (n: number) => string): Promise<unknown[]> {
  const statuses: unknown[] = [];
  for (let n = 0; n < times; n += 1) statuses.push((await connect(address(n))).status);
  return statuses;
}

let serial = 0;
const events = (count: number, fields: Partial<NostrEvent> & { pubkey: string }) =>
  Array.from({ length: count }, () => {
    serial += 1;
    return unsignedEvent({ content: `event ${serial}`, ...fields });
  });

const limited = (rule: string) =>
  expect.stringMatching(`^rate-limited: ${rule}, try again in \\d+ s$`);
const accepted = (count: number) => Array.from({ length: count }, () => '');

/** Writes another file, and has the relay read it. Resolves with what it prints. */
async function reload(content: string, printed: RegExp): Promise<string | undefined> {
  writeFileSync(path, content);
  relay.signal('SIGHUP');
  return relay.line(printed);
}

describe('The Nostr relay', () => {
  test('publishes, stores and forwards events', async () => {
    const [reader, writer] = [await open('10.1.0.1'), await open('10.1.1.1')];
    const [first, second] = [1, 2].map((n) =>
      unsignedEvent({ pubkey: author(1), created_at: n, tags: [['t', 'bell']], content: `${n}` }),
    ) as [NostrEvent, NostrEvent];
    writer.send(['EVENT', first], ['EVENT', second], ['EVENT', first]);
    const repeated = expect.stringMatching(/^duplicate: /);
    expect(await writer.replies()).toEqual([
      ['OK', first.id, true, ''],
      ['OK', second.id, true, ''],
      ['OK', first.id, true, repeated],
    ]);
    reader.send(['REQ', 's', { authors: [author(1)], kinds: [1], '#t': ['bell'], limit: 1 }]);
    expect(await reader.replies()).toEqual([
      ['EVENT', 's', second],
      ['EOSE', 's'],
    ]);
    reader.send(['REQ', 't', { ids: [first.id] }, { since: 2, until: 2 }]);
    expect(await reader.replies()).toEqual([
      ['EVENT', 't', second],
      ['EVENT', 't', first],
      ['EOSE', 't'],
    ]);
    reader.send(['CLOSE', 't']);
    await reader.replies();
    const live = unsignedEvent({ pubkey: author(1), tags: [['t', 'bell']], content: 'live' });
    expect(await writer.publish(live)).toEqual(['']);
    expect(await reader.replies()).toEqual([['EVENT', 's', live]]);
  });

  test('keeps the latest of replaceable events, and no ephemeral ones', async () => {
    const client = await open('10.2.0.1');
    const pubkey = author(2);
    const profiles = [5, 9, 7].map((created_at) => unsignedEvent({ pubkey, kind: 0, created_at }));
    client.send(...profiles.map((event) => ['EVENT', event]));
    client.send(['EVENT', unsignedEvent({ pubkey, kind: 20_000 })]);
    expect((await client.replies()).map(([, , isAccepted]) => isAccepted)).toEqual(
      Array(4).fill(true),
    );
    client.send(['REQ', 's', { authors: [pubkey] }]);
    expect(await client.replies()).toEqual([
      ['EVENT', 's', profiles[1]],
      ['EOSE', 's'],
    ]);
  });

  test('refuses what is malformed', async () => {
    const client = await open('10.3.0.1');
    const event = unsignedEvent({ pubkey: author(3) });
    client.socket.send('{');
    client.socket.send(Buffer.from('["CLOSE","s"]'), { binary: true });
    client.send({}, ['COUNT', 'c', {}], ['REQ', ''], ['EVENT', {}], ['EVENT', null]);
    const replies = await client.replies();
    expect(replies).toHaveLength(7);
    for (const [verb, reason] of replies) {
      expect([verb, reason]).toEqual(['NOTICE', expect.stringMatching(/^invalid: /)]);
    }
    client.send(['REQ', 's'], ['REQ', 's', { search: 'x' }], ['REQ', 's', { since: 'now' }]);
    const closed = ['CLOSED', 's', expect.stringMatching(/^invalid: /)];
    expect(await client.replies()).toEqual([closed, closed, closed]);
    const future = unsignedEvent({ pubkey: author(3), created_at: Date.now() });
    expect(await client.publish({ ...event, content: 'other' }, future)).toEqual([
      'invalid: the id is not that of the event',
      'invalid: created_at is in the future',
    ]);
  });

  test('shows its limits in the document of NIP-11', async () => {
    const headers = { Accept: 'application/nostr+json' };
    const response = await fetch(`http://127.0.0.1:${port}`, { headers });
    expect(response.headers.get('content-type')).toBe('application/nostr+json');
    expect(response.headers.get('access-control-allow-origin')).toBe('*');
    const { rate_limits: shown, ...document } = await response.json();
    expect(document).toMatchObject({ supported_nips: [1, 11], limitation: { max_filters: 10 } });
    const { everybody, ...rules } = file.rules;
    expect(everybody?.dryRun).toBe(true);
    expect(shown).toEqual(rules);
    expect((await fetch(`http://127.0.0.1:${port}`)).status).toBe(426);
  });
});

describe('The limits of the Nostr relay', () => {
  test('refuse connections of an address and of its network', async () => {
    const statuses = await connectTimes(13, () => '10.4.0.1');
    expect(statuses).toEqual([...Array(12).fill(101), 429]);
    expect(Number((await connect('10.4.0.1')).retryAfter)).toBeGreaterThan(0);
    // 30 connections of the network, of which 12 are used.
    const others = await connectTimes(19, (n) => `10.4.0.${2 + Math.floor(n / 12)}`);
    expect(others).toEqual([...Array(18).fill(101), 429]);
    expect((await connect('10.4.1.1')).status).toBe(101);
  });

  test.each([
    ['profiles', 0, 6],
    ['profiles', 3, 6],
    ['notes', 1, 12],
    ['direct messages', 4, 30],
    ['direct messages', 1059, 30],
    ['reactions', 7, 60],
    ['reactions', 6, 60],
    ['other kinds', 30_023, 24],
  ])('refuse an author by %s, kind %i', async (rule, kind, quota) => {
    const client = await open(`10.5.${kind % 251}.1`);
    const pubkey = author(0x100 + kind);
    const sent = events(quota + 1, { pubkey, kind });
    expect(await client.publish(...sent)).toEqual([...accepted(quota), limited(rule)]);
  });

  test('refuse an author by its events per hour and per day, by the numbers of its plan', async () => {
    const hourly = await open('10.6.0.1');
    const perHour = events(241, { pubkey: HOURLY });
    expect(await hourly.publish(...perHour)).toEqual([
      ...accepted(240),
      limited('events per hour'),
    ]);
    const daily = await open('10.6.1.1');
    const perDay = events(51, { pubkey: DAILY });
    expect(await daily.publish(...perDay)).toEqual([...accepted(50), limited('events per day')]);
  });

  test('let a paying author publish more', async () => {
    const client = await open('10.7.0.1');
    const notes = events(121, { pubkey: PAYING });
    expect(await client.publish(...notes)).toEqual([...accepted(120), limited('notes')]);
  });

  test('refuse an address that publishes by many authors', async () => {
    const client = await open('10.8.0.1');
    const sent = Array.from({ length: 301 }, (_, n) => {
      const pubkey = author(0x20_000 + Math.floor(n / 10));
      return unsignedEvent({ pubkey, content: `by many ${n}` });
    });
    expect(await client.publish(...sent)).toEqual([...accepted(300), limited('events')]);
  });

  test('refuse queries by their filters', async () => {
    const client = await open('10.9.0.1');
    const filters = Array(10).fill({ ids: [] });
    for (let n = 0; n < 13; n += 1) client.send(['REQ', 's', ...filters]);
    const eose = Array.from({ length: 12 }, () => ['EOSE', 's']);
    expect(await client.replies()).toEqual([...eose, ['CLOSED', 's', limited('filters')]]);
  });

  test('drop messages beyond the bytes of a connection', async () => {
    const client = await open('10.10.0.1');
    const large = ['CLOSE', 'x'.repeat(100_000)];
    for (let n = 0; n < 6; n += 1) client.send(large);
    const replies = await client.replies();
    expect(replies).toEqual([
      ...Array.from({ length: 5 }, () => ['NOTICE', expect.stringMatching(/^invalid: /)]),
      ['NOTICE', limited('bytes')],
    ]);
    const other = await open('10.10.0.1');
    other.send(['CLOSE', 's']);
    expect(await other.replies()).toEqual([]);
  });

  test('warn, then drop messages, then ban the address', async () => {
    const [client, sibling] = [await open('10.11.0.1'), await open('10.11.0.1')];
    client.send(...Array(600).fill(['CLOSE', 's']));
    expect(await client.replies()).toEqual([
      ['NOTICE', 'rate-limited: "messages" is nearly used up'],
    ]);
    client.send(...Array(25).fill(['CLOSE', 's']));
    const { code, reason } = await client.closed;
    expect(code).toBe(1008);
    expect(reason).toMatch(/^blocked: banned, try again in \d+ s$/);
    const replies = client.received.splice(0);
    expect(replies.pop()).toEqual(['NOTICE', reason]);
    for (const reply of replies) expect(reply).toEqual(['NOTICE', limited('messages')]);
    // The ban begins with 20 refusals at once, or one more if their level drains a little meanwhile.
    expect(replies.length).toBeGreaterThanOrEqual(19);
    expect(replies.length).toBeLessThanOrEqual(20);
    const { status, retryAfter } = await connect('10.11.0.1');
    expect([status, Number(retryAfter) > 0]).toEqual([429, true]);
    sibling.send(['CLOSE', 's']);
    expect((await sibling.closed).code).toBe(1008);
    expect((await connect('10.11.0.2')).status).toBe(101);
  });

  test('let everything through of an allowed address and of an allowed author', async () => {
    const statuses = await connectTimes(15, () => ALLOWED_ADDRESS);
    expect(statuses).toEqual(Array(15).fill(101));
    const client = await open(ALLOWED_ADDRESS);
    client.send(...Array(700).fill(['CLOSE', 's']));
    expect(await client.replies()).toEqual([]);
    expect(await client.publish(...events(20, { pubkey: author(4) }))).toEqual(accepted(20));
    const operator = await open('10.12.0.1');
    expect(await operator.publish(...events(50, { pubkey: OPERATOR }))).toEqual(accepted(50));
  });

  test('refuse a denied address and a denied author', async () => {
    expect((await connect('198.51.100.9')).status).toBe(403);
    const client = await open('10.13.0.1');
    const [reason] = await client.publish(...events(1, { pubkey: DENIED }));
    expect(reason).toBe('blocked: not welcome here');
    expect(await client.publish(...events(1, { pubkey: author(5) }))).toEqual(['']);
  });

  test('change on SIGHUP while clients are connected, and stay if the file is wrong', async () => {
    const pubkey = author(6);
    const [client, victim] = [await open('10.14.0.1'), await open('10.15.0.1')];
    const flooder = await open('10.16.0.1');
    flooder.send(...Array(625).fill(['CLOSE', 's']));
    expect((await flooder.closed).code).toBe(1008);
    expect(await client.publish(...events(6, { pubkey }))).toEqual(accepted(6));
    expect(await reload('{', /(limits, version 1 stays: .*JSON.*)/)).toBeDefined();
    const wrong = { ...file, rules: { ...file.rules, notes: { scope: 'author', quota: 1 } } };
    const error = await reload(JSON.stringify(wrong), /version 1 stays: (rules\.notes.*)/);
    expect(error).toContain('must be the name of a scope: connection, address, network, account');
    const unpaid = { ...file, authors: { gold: [] } };
    await reload(JSON.stringify(unpaid), /version 1 stays: authors must be .* got "gold"/);
    expect(await client.publish(...events(7, { pubkey }))).toEqual([
      ...accepted(6),
      limited('notes'),
    ]);

    // Twelve are used: of 20 per window eight are left.
    const { notes, connects, network } = file.rules;
    const changed = {
      ...file,
      rules: {
        ...file.rules,
        notes: { ...notes, quota: 20 },
        connects: { ...connects, quota: 100 },
        network: { ...network, quota: 100 },
      },
      deny: { address: ['10.15.0.0/16'] },
    };
    expect(await reload(JSON.stringify(changed), /version 2: (\d+) rules/)).toBe('15');
    expect(await client.publish(...events(9, { pubkey }))).toEqual([
      ...accepted(8),
      limited('notes'),
    ]);
    const statuses = await connectTimes(48, () => '10.14.0.1');
    expect(statuses).toEqual([...Array(47).fill(101), 429]);
    victim.send(['CLOSE', 's']);
    const goodbye = { code: 1008, reason: 'blocked: not welcome here' };
    expect(await victim.closed).toEqual(goodbye);
    // A ban stays; a network that the list no longer contains is not denied any more.
    expect((await connect('10.16.0.1')).status).toBe(429);
    expect((await connect('198.51.100.9')).status).toBe(101);
  });
});

describe('The command demo:nostr', () => {
  test('lists its flags', async () => {
    const { code, output } = await start(MAIN, ['--help']).ended;
    expect(code).toBe(0);
    for (const flag of ['--port', '--config', '--engine', '--server-only']) {
      expect(output).toContain(flag);
    }
  });

  test('refuses a wrong flag and a wrong file', async () => {
    expect((await start(MAIN, ['--port', 'x']).ended).code).toBe(2);
    const wrong = join(folder, 'wrong.json');
    writeFileSync(wrong, JSON.stringify({ ...file, rule: {} }));
    const { code, output } = await start(MAIN, ['--config', wrong]).ended;
    expect(code).toBe(1);
    expect(output).toMatch(/^demo:nostr: .*"rule"/);
  });

  test('protects honest authors from a flooder', async () => {
    const { code, output } = await start(MAIN, ['--seconds', '2']).ended;
    expect(output).toContain('honest authors: 80 of 80 notes accepted');
    expect(output).toMatch(/^ +\d+ +delay +notes +account +[\d,]+$/m);
    expect(code).toBe(0);
  });
});
