// Limiters as prom-client's metrics, read as Prometheus reads them.

import client, { Counter, Registry } from 'prom-client';
import {
  DirectConnectionRateLimiter,
  OrderbookRateLimiter,
  RateLimiter,
  type RateLimiterOptions,
} from 'relay-limiter';
import { collectMetrics, type MetricsOptions } from 'relay-limiter/metrics';
import { SharedBans, SharedRateLimiter } from 'relay-limiter/redis';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { openPeer } from '../../dist/limiters/verdict.js';
import grafana from '../../docs/grafana.json' with { type: 'json' };
import { codeOf, ENGINES, manualClock, TESTS_NATIVE } from '../support/limiters.js';
import { seeded } from '../support/random.js';

function collect(options: Omit<MetricsOptions, 'client'> & Partial<MetricsOptions>) {
  const register = new Registry();
  const collection = collectMetrics({ client, register, ...options });
  onTestFinished(() => collection.stop());
  return { register, collection };
}

/** Every sample of a scrape, as it is written there. */
async function scrape(register: Registry): Promise<Map<string, number>> {
  const lines = (await register.metrics()).split('\n').filter((line) => /^[a-z]/.test(line));
  return new Map(lines.map((line) => [line.replace(/ \S+$/, ''), Number(/\S+$/.exec(line)?.[0])]));
}

describe.each(ENGINES)('%s', (engine) => {
  const clock = manualClock();

  test('what limiters tell, by their names', async () => {
    const messages = new RateLimiter({ engine, clock, burstLimit: 3, disconnectThreshold: 3 });
    const books = new OrderbookRateLimiter({ engine, clock, violationBanThreshold: 1 });
    const direct = new DirectConnectionRateLimiter({ engine, clock, messageBurst: 2 });
    const { register } = collect({ limiters: { messages, books, direct }, sampleEvery: 0 });
    for (let n = 0; n < 9; n += 1) messages.check('flooder');
    messages.check('honest');
    for (let n = 0; n < 4; n += 1) books.check('mallory');
    for (let n = 0; n < 3; n += 1) direct.checkMessage('connection-1');
    const samples = await scrape(register);
    const of = (name: string) => samples.get(`relay_limiter_${name}`);
    expect(of('checks_total{limiter="messages",verdict="allow"}')).toBe(4);
    expect(of('checks_total{limiter="messages",verdict="delay"}')).toBe(2);
    expect(of('checks_total{limiter="messages",verdict="disconnect"}')).toBe(4);
    expect(of('checks_total{limiter="books",verdict="allow"}')).toBe(1);
    expect(of('checks_total{limiter="books",verdict="delay"}')).toBe(1);
    expect(of('checks_total{limiter="books",verdict="disconnect"}')).toBe(2);
    expect(of('checks_total{limiter="direct",verdict="delay"}')).toBe(1);
    expect(of('tracked_peers{limiter="messages"}')).toBe(2);
    expect(of('tracked_peers{limiter="direct"}')).toBe(1);
    expect(of('banned_peers{limiter="messages"}')).toBe(0);
    expect(of('banned_peers{limiter="books"}')).toBe(1);
    expect(of('bans_total{limiter="books"}')).toBe(1);
    expect(of('violations{limiter="messages"}')).toBe(6);
    expect(of('evictions_total{limiter="messages",lossy="true"}')).toBe(0);
    expect(of('evictions_total{limiter="messages",lossy="false"}')).toBe(0);
    expect(of('refused_newcomers_total{limiter="messages"}')).toBe(0);
    const { memoryBytes } = messages.getStats();
    expect(of('table_bytes{limiter="messages"}')).toBe(memoryBytes);
    expect(memoryBytes === undefined).toBe(engine === 'js');
  });

  test('scrape after scrape they are totals, which never go back', async () => {
    const messages = new RateLimiter({ engine, clock });
    const { register } = collect({ limiters: { messages } });
    const allowed = async () =>
      (await scrape(register)).get(
        'relay_limiter_checks_total{limiter="messages",verdict="allow"}',
      );
    messages.check('a');
    expect(await allowed()).toBe(1);
    expect(await allowed()).toBe(1);
    messages.check('b');
    messages.clear();
    expect(await allowed()).toBe(2);
  });
});

describe('a scrape', () => {
  test('reads each limiter once', async () => {
    const messages = new RateLimiter({ engine: 'js' });
    const getOverview = messages.getOverview.bind(messages);
    let reads = 0;
    messages.getOverview = () => {
      reads += 1;
      return getOverview();
    };
    const { register } = collect({ limiters: { messages } });
    expect(reads).toBe(0);
    await register.metrics();
    expect(reads).toBe(1);
    await register.metrics();
    expect(reads).toBe(2);
  });

  test('goes on without a limiter whose clock throws, which comes back', async () => {
    let broken = false;
    const books = new OrderbookRateLimiter({
      violationBanThreshold: 0,
      clock() {
        if (broken) throw new Error('no clock');
        return 1;
      },
    });
    books.check('mallory');
    const { register } = collect({ limiters: { books, messages: new RateLimiter() } });
    const has = async (name: string) => (await scrape(register)).get(`relay_limiter_${name}`);
    expect(await has('banned_peers{limiter="books"}')).toBe(1);
    broken = true;
    expect(await has('tracked_peers{limiter="messages"}')).toBe(0);
    // Nor does it show what is not known any more.
    expect(await has('banned_peers{limiter="books"}')).toBe(undefined);
    expect(await has('bans_total{limiter="books"}')).toBe(undefined);
    broken = false;
    expect(await has('bans_total{limiter="books"}')).toBe(1);
  });

  test('in the format of OpenMetrics as well', async () => {
    const register = new Registry<client.OpenMetricsContentType>();
    register.setContentType(Registry.OPENMETRICS_CONTENT_TYPE);
    const messages = new RateLimiter({ engine: 'js' });
    collect({ limiters: { messages }, register: register as unknown as Registry });
    messages.check('a');
    expect(await register.metrics()).toMatch(
      /^relay_limiter_checks_total\{limiter="messages",verdict="allow"\} 1$[\s\S]*^# EOF$/m,
    );
  });
});

describe('check seconds', () => {
  const create = (options: RateLimiterOptions = {}) =>
    new RateLimiter({ engine: 'js', ...options });
  const seconds = async (register: Registry, labels: string) =>
    (await scrape(register)).get(`relay_limiter_check_seconds_count{${labels}}`);

  test('each, where each is asked for, by its method', async () => {
    const messages = create();
    const direct = new DirectConnectionRateLimiter({ engine: 'js' });
    const { register } = collect({ limiters: { messages, direct }, sampleEvery: 1 });
    for (let n = 0; n < 10; n += 1) messages.check('a');
    direct.checkMessage('a');
    direct.checkOrderbook('a');
    direct.checkOrderbook('b');
    expect(await seconds(register, 'limiter="messages",method="check"')).toBe(10);
    expect(await seconds(register, 'limiter="direct",method="checkMessage"')).toBe(1);
    expect(await seconds(register, 'limiter="direct",method="checkOrderbook"')).toBe(2);
  });

  test('about one in a hundred by default', async () => {
    const random = vi.spyOn(Math, 'random').mockImplementation(seeded(1));
    onTestFinished(() => random.mockRestore());
    const messages = create();
    const { register } = collect({ limiters: { messages } });
    for (let n = 0; n < 100_000; n += 1) messages.check('a');
    const sampled = await seconds(register, 'limiter="messages",method="check"');
    expect(sampled).toBeGreaterThan(900);
    expect(sampled).toBeLessThan(1100);
  });

  test('none, where none are asked for, and the limiter is left alone', async () => {
    const messages = create();
    const { check } = messages;
    const { register } = collect({ limiters: { messages }, sampleEvery: 0 });
    expect(messages.check).toBe(check);
    expect(await register.metrics()).not.toContain('check_seconds');
  });

  test('a check answers, and throws, what it always did', () => {
    const messages = create({ burstLimit: 1, rateLimit: 0.001 });
    collect({ limiters: { messages }, sampleEvery: 1 });
    expect(messages.check('a')).toEqual(['allow', 0]);
    expect(messages.check('a')[0]).toBe('delay');
    expect(codeOf(() => messages.check('a', -1))).toBe('ERR_LIMITER_COST');
    expect(codeOf(() => messages.check(7 as unknown as string))).toBe('ERR_LIMITER_KEY');
  });

  test('stop gives the limiter its own check back', async () => {
    const messages = create();
    const { register, collection } = collect({ limiters: { messages } });
    expect(Object.hasOwn(messages, 'check')).toBe(true);
    collection.stop();
    expect(Object.hasOwn(messages, 'check')).toBe(false);
    expect(await register.metrics()).toBe('\n');
    collection.stop();
  });

  test('two collections that end in any order leave nothing behind', async () => {
    const messages = create();
    const { check } = messages;
    const first = collect({ limiters: { messages }, sampleEvery: 1 });
    const second = collect({ limiters: { messages }, sampleEvery: 1 });
    messages.check('a');
    first.collection.stop();
    messages.check('a');
    expect(await seconds(second.register, 'limiter="messages",method="check"')).toBe(2);
    second.collection.stop();
    expect(messages.check).toBe(check);
    expect([Object.hasOwn(messages, 'check'), Object.hasOwn(messages, 'open')]).toEqual([
      false,
      false,
    ]);
  });

  test("another's shadow stays, and ours below it samples no longer", async () => {
    const messages = create();
    const { register, collection } = collect({ limiters: { messages }, sampleEvery: 1 });
    const ours = messages.check;
    let calls = 0;
    messages.check = (key) => {
      calls += 1;
      return ours(key);
    };
    messages.check('a');
    expect(await seconds(register, 'limiter="messages",method="check"')).toBe(1);
    collection.stop();
    expect(messages.check('a')).toEqual(['allow', 0]);
    expect(calls).toBe(2);
  });

  test('of peers that are opened meanwhile, until it ends', async () => {
    const messages = create({ burstLimit: 2, rateLimit: 0.001 });
    const direct = new DirectConnectionRateLimiter({ engine: 'js' });
    const { register, collection } = collect({ limiters: { messages, direct }, sampleEvery: 1 });
    const peer = messages.open('a');
    expect(peer.check()).toEqual(['allow', 0]);
    expect(peer.check(1)).toEqual(['allow', 0]);
    expect(peer.check()[0]).toBe('delay');
    const connection = direct.open('a');
    connection.checkMessage();
    connection.checkOrderbook();
    expect(messages.group([peer]).check()).toEqual(new Uint8Array([1]));
    expect(await seconds(register, 'limiter="messages",method="check"')).toBe(3);
    expect(await seconds(register, 'limiter="direct",method="checkMessage"')).toBe(1);
    expect(await seconds(register, 'limiter="direct",method="checkOrderbook"')).toBe(1);
    expect(Object.hasOwn(peer, 'check')).toBe(true);
    collection.stop();
    expect(peer.check()[0]).toBe('delay');
    expect(Object.hasOwn(peer, 'check')).toBe(false);
    expect(Object.hasOwn(messages.open('b'), 'check')).toBe(false);
  });

  test("of a guard's messages", async () => {
    const messages = create();
    const { register } = collect({ limiters: { messages }, sampleEvery: 1 });
    const peer = openPeer(messages, 'connection-1');
    for (let n = 0; n < 5; n += 1) peer.check();
    expect(await seconds(register, 'limiter="messages",method="check"')).toBe(5);
  });
});

/** A client of a store that answers as one does that is there, until `server.isAway`. */
function storeClient(server = { isAway: false }): object {
  const nothing = () => {};
  const answer = async (text: string) => {
    if (server.isAway) throw new Error('Socket closed unexpectedly');
    if (text.includes('ZADD')) return ['run', 1, '1000', 3];
    return ['4', 0, '0', 0, '30'];
  };
  return { eval: answer, evalSha: answer, connect: nothing, on: nothing, off: nothing };
}

async function sharedLimit(server = { isAway: false }): Promise<SharedRateLimiter> {
  const limit = new SharedRateLimiter({ client: storeClient(server), onStoreFailure: 'open' });
  onTestFinished(() => limit.close());
  await limit.ready();
  return limit;
}

function sharedBans(): SharedBans {
  const bans = new SharedBans({ client: storeClient() });
  onTestFinished(() => bans.close());
  return bans;
}

describe('what processes share', () => {
  test('limits: verdicts, leases, and how the store is, through each change of its state', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
    onTestFinished(() => void vi.useRealTimers());
    const server = { isAway: false };
    const limit = await sharedLimit(server);
    const local = new SharedRateLimiter({ mode: 'local' });
    const { register } = collect({ shared: { limit, local } });
    const all = () => scrape(register);
    const of = (samples: Map<string, number>, name: string) => samples.get(`relay_limiter_${name}`);
    for (let n = 0; n < 2; n += 1) await limit.checkAsync('p');
    local.check('p');
    const before = await all();
    expect(of(before, 'shared_checks_total{limiter="limit",verdict="allow"}')).toBe(2);
    expect(of(before, 'shared_checks_total{limiter="local",verdict="allow"}')).toBe(1);
    expect(of(before, 'leased_tokens{limiter="limit"}')).toBe(2);
    expect(of(before, 'shared_tracked_peers{limiter="limit"}')).toBe(1);
    expect(of(before, 'store_up{limiter="limit"}')).toBe(1);
    expect(of(before, 'store_up{limiter="local"}')).toBe(undefined);
    expect(of(before, 'store_nodes{limiter="limit"}')).toBe(3);
    expect(of(before, 'store_calls_total{limiter="limit",kind="peer"}')).toBe(1);
    expect(of(before, 'store_downs_total{limiter="limit"}')).toBe(0);
    server.isAway = true;
    for (let n = 0; n < 3; n += 1) await limit.checkAsync(`q${n}`);
    const away = await all();
    expect(of(away, 'store_up{limiter="limit"}')).toBe(0);
    expect(of(away, 'store_downs_total{limiter="limit"}')).toBe(1);
    expect(of(away, 'store_failures_total{limiter="limit"}')).toBe(3);
    expect(of(away, 'shared_fallback_checks_total{limiter="limit"}')).toBe(3);
    server.isAway = false;
    await vi.advanceTimersByTimeAsync(60_000);
    expect(of(await all(), 'store_up{limiter="limit"}')).toBe(1);
  });

  test('bans', async () => {
    const bans = sharedBans();
    const { register } = collect({ shared: { bans } });
    bans.ban('mallory', 60);
    const samples = await scrape(register);
    const of = (name: string) => samples.get(`relay_limiter_${name}{limiter="bans"}`);
    expect(of('shared_bans')).toBe(1);
    expect(of('shared_bans_up')).toBe(0);
    expect(of('shared_bans_waiting')).toBe(1);
    // What it has no word of it does not tell.
    expect(of('store_up')).toBe(undefined);
  });
});

describe('options', () => {
  const limiters = { messages: new RateLimiter({ engine: 'js' }) };

  test.each<[string, object]>([
    ['no prom-client', { limiters }],
    ['what is not prom-client', { client: {}, limiters }],
    ['a register that is none', { client, limiters, register: {} }],
    ['no limiters', { client }],
    ['limiters without a name', { client, limiters: [] }],
    ['what is no limiter', { client, limiters: { messages: new Map() } }],
    ['a prefix that no metric may have', { client, limiters, prefix: 'relay-limiter-' }],
    ['a part of a check', { client, limiters, sampleEvery: 0.5 }],
    ['nothing shared, and no limiters', { client, shared: {} }],
    ['what is not shared', { client, shared: { messages: new RateLimiter({ engine: 'js' }) } }],
    ['an unknown name', { client, limiters, registry: client.register }],
  ])('%s', (_, options) => {
    expect(codeOf(() => collectMetrics(options as MetricsOptions))).toBe('ERR_LIMITER_OPTION');
  });

  test("prom-client's own register, and another prefix", async () => {
    const collection = collectMetrics({ client, limiters, prefix: 'relay_' });
    expect(await client.register.metrics()).toContain('relay_checks_total{');
    collection.stop();
    expect(await client.register.metrics()).not.toContain('relay_checks_total');
  });

  test('a name that is taken leaves everything as it was', async () => {
    const register = new Registry();
    const name = 'relay_limiter_table_bytes';
    new Counter({ name, help: 'Of another', registers: [register] });
    const { check } = limiters.messages;
    expect(() => collectMetrics({ client, limiters, register })).toThrow('already been registered');
    expect(register.getMetricsAsArray().map((metric) => metric.name)).toEqual([name]);
    expect(limiters.messages.check).toBe(check);
  });
});

describe('the Grafana dashboard', () => {
  const targets = grafana.panels.flatMap((panel) => ('targets' in panel ? panel.targets : []));
  const expressions = targets.map(({ expr }) => expr).join('\n');
  const named = new Set(expressions.match(/\b(relay_limiter|nodejs|process)_\w+/g));

  async function collected() {
    const messages = new RateLimiter();
    const shared = { limit: await sharedLimit(), bans: sharedBans() };
    const { register } = collect({ limiters: { messages }, shared, sampleEvery: 1 });
    client.collectDefaultMetrics({ register });
    messages.check('a');
    return scrape(register);
  }

  test('names what is collected, and all of it', async () => {
    const names = new Set([...(await collected()).keys()].map((key) => key.replace(/\{.*/, '')));
    // The TypeScript engine does not know what memory it takes.
    if (!TESTS_NATIVE) names.add('relay_limiter_table_bytes');
    for (const name of named) expect(names).toContain(name);
    const ours = [...names].filter((name) => name.startsWith('relay_limiter_'));
    // A histogram's sum and count are for means, which say little of checks.
    const shown = ours.filter((name) => !/check_seconds_(sum|count)$/.test(name));
    expect(shown.filter((name) => !named.has(name))).toEqual([]);
  });

  test('takes any data source, and can be imported', () => {
    expect(grafana.templating.list.map(({ name }) => name)).toEqual(['datasource', 'limiter']);
    for (const target of targets) {
      expect(target.datasource.uid).toBe(`$${'{datasource}'}`);
    }
    for (const expression of expressions.split('\n').filter((line) => line.includes('relay_'))) {
      expect(expression).toContain('limiter=~"$limiter"');
    }
    const ids = grafana.panels.map(({ id }) => id);
    expect(new Set(ids).size).toBe(ids.length);
    expect(grafana.id).toBe(null);
  });
});
