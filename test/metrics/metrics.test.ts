// Tests of collectMetrics: each test parses the text that a Prometheus server scrapes.

import client, { Counter, Registry } from 'prom-client';
import {
  DirectConnectionRateLimiter,
  OrderbookRateLimiter,
  RateLimiter,
  RuleLimiter,
} from 'relay-limiter';
import { collectMetrics, type MetricsOptions } from 'relay-limiter/metrics';
import { SharedBans, SharedRateLimiter } from 'relay-limiter/redis';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { GuardCounters } from '../../dist/guard/guard-stats.js';
import grafana from '../../docs/grafana.json' with { type: 'json' };
import { codeOf, ENGINES, manualClock, TESTS_NATIVE } from '../support/limiters.js';

function collect(options: Omit<MetricsOptions, 'client'> & Partial<MetricsOptions>) {
  const register = new Registry();
  const collection = collectMetrics({ client, register, ...options });
  onTestFinished(() => collection.stop());
  return { register, collection };
}

/** The values of one scrape, by metric name and labels. */
async function scrape(register: Registry): Promise<Map<string, number>> {
  const lines = (await register.metrics()).split('\n').filter((line) => /^[a-z]/.test(line));
  return new Map(lines.map((line) => [line.replace(/ \S+$/, ''), Number(/\S+$/.exec(line)?.[0])]));
}

describe.each(ENGINES)('collectMetrics with the %s engine', (engine) => {
  const clock = manualClock();

  test('exports the statistics of each limiter under its name', async () => {
    const messages = new RateLimiter({ engine, clock, burstLimit: 3, disconnectThreshold: 3 });
    const books = new OrderbookRateLimiter({ engine, clock, violationBanThreshold: 1 });
    const direct = new DirectConnectionRateLimiter({ engine, clock, messageBurst: 2 });
    const { register } = collect({ limiters: { messages, books, direct } });
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

  test('exports totals that never decrease between scrapes', async () => {
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

  test('omits a limiter while its clock throws', async () => {
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
    // Values of an earlier scrape must not remain.
    expect(await has('banned_peers{limiter="books"}')).toBe(undefined);
    expect(await has('bans_total{limiter="books"}')).toBe(undefined);
    broken = false;
    expect(await has('bans_total{limiter="books"}')).toBe(1);
  });

  test('can use the OpenMetrics format', async () => {
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

describe('collectMetrics with a RuleLimiter', () => {
  const clock = manualClock();
  const create = () =>
    new RuleLimiter({
      engine: 'js',
      clock,
      scopes: { address: {}, account: {}, server: { single: true } },
      rules: {
        messages: { scope: 'address', rateLimit: 1, burstLimit: 2 },
        'events an hour': { scope: 'account', quota: 10, windowSeconds: 3600 },
        everybody: { scope: 'server', rateLimit: 1, burstLimit: 1, dryRun: true },
      },
      bans: { address: { violations: 2, withinSeconds: 60, seconds: 60 } },
      deny: { account: ['mallory'] },
    });
  const KEY = 'a-key-that-is-in-no-label';

  test('exports outcomes, the state of each scope, and the refusals of each rule', async () => {
    const relay = create();
    const messages = new RateLimiter({ engine: 'js', clock });
    const { register } = collect({ limiters: { relay, messages } });
    for (let n = 0; n < 5; n += 1) relay.check({ address: KEY, account: KEY });
    relay.check({ account: 'mallory' });
    const samples = await scrape(register);
    const of = (name: string) => samples.get(`relay_limiter_${name}`);
    expect(of('checks_total{limiter="relay",verdict="allow"}')).toBe(2);
    expect(of('checks_total{limiter="relay",verdict="delay"}')).toBe(1);
    expect(of('checks_total{limiter="relay",verdict="banned"}')).toBe(2);
    expect(of('checks_total{limiter="relay",verdict="denied"}')).toBe(1);
    expect(of('tracked_peers{limiter="relay",scope="address"}')).toBe(1);
    expect(of('tracked_peers{limiter="relay",scope="account"}')).toBe(1);
    expect(of('banned_peers{limiter="relay",scope="address"}')).toBe(1);
    expect(of('banned_peers{limiter="relay",scope="account"}')).toBe(0);
    expect(of('bans_total{limiter="relay",scope="address"}')).toBe(1);
    expect(of('violations{limiter="relay",scope="address"}')).toBe(2);
    expect(of('evictions_total{limiter="relay",scope="account",lossy="false"}')).toBe(0);
    expect(of('refused_newcomers_total{limiter="relay",scope="account"}')).toBe(0);
    const rule = (name: string, scope: string, rule: string) =>
      of(`${name}{limiter="relay",scope="${scope}",rule="${rule}"}`);
    expect(rule('rule_checks_total', 'address', 'messages')).toBe(4);
    expect(rule('rule_refused_total', 'address', 'messages')).toBe(2);
    expect(rule('rule_checks_total', 'account', 'events an hour')).toBe(4);
    expect(rule('rule_refused_total', 'account', 'events an hour')).toBe(0);
    expect(rule('rule_dry_run_refused_total', 'server', 'everybody')).toBe(3);
    // A limiter without scopes has no such label.
    expect(of('tracked_peers{limiter="messages"}')).toBe(0);
    expect([...samples.keys()].filter((name) => name.includes('server'))).toHaveLength(3);
  });

  test('has as many series as rules and scopes, whatever keys there are', async () => {
    const relay = create();
    const { register } = collect({ limiters: { relay } });
    const { size } = await scrape(register);
    for (let n = 0; n < 100; n += 1) {
      for (let m = 0; m < 5; m += 1) relay.check({ address: `${KEY}-${n}`, account: KEY });
    }
    const samples = await scrape(register);
    expect(samples.size).toBe(size);
    expect([...samples.keys()].join()).not.toContain(KEY);
  });

  test('follows updates: a removed rule is gone, the totals of its scope stay', async () => {
    const relay = create();
    const { register } = collect({ limiters: { relay } });
    relay.check({ address: KEY });
    relay.update({ rules: { bytes: { scope: 'address', unit: 'bytes', rateLimit: 1 } } });
    relay.check({ address: KEY }, { bytes: 1 });
    const samples = await scrape(register);
    const rules = [...samples.keys()].filter((name) => name.includes('rule_checks_total'));
    expect(rules).toEqual([
      'relay_limiter_rule_checks_total{limiter="relay",scope="address",rule="bytes"}',
    ]);
    expect(relay.scope('address').getOverview().verdicts.allow).toBe(2);
  });

  test('is omitted while its clock throws', async () => {
    let broken = false;
    const relay = new RuleLimiter({
      engine: 'js',
      clock() {
        if (broken) throw new Error('no clock');
        return 1;
      },
      scopes: { address: {} },
      rules: { messages: { scope: 'address', rateLimit: 1 } },
    });
    const { register } = collect({ limiters: { relay } });
    expect((await scrape(register)).size).toBeGreaterThan(0);
    broken = true;
    expect((await scrape(register)).size).toBe(0);
  });
});

/** A Redis client that returns the replies of an available store; its calls reject while `server.isAway` is true. */
function storeClient(server = { isAway: false }): object {
  const nothing = () => {};
  const answer = async (text: string, { arguments: args }: { arguments: string[] }) => {
    if (server.isAway) throw new Error('Socket closed unexpectedly');
    if (text.includes('HVALS')) return ['40 30 20 10 0'];
    if (text.includes('ZADD')) return ['run', '1000', 3, 'epoch', '', '0', '0'];
    // A first check has the fewest arguments.
    return args.length <= 2 ? 99 : ['4', 0, '0', 0, '30'];
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

describe('collectMetrics with shared limiters', () => {
  test('exports the verdicts, leases and store state of a SharedRateLimiter through an outage', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
    onTestFinished(() => void vi.useRealTimers());
    const server = { isAway: false };
    const limit = await sharedLimit(server);
    const local = new SharedRateLimiter({ mode: 'local' });
    const { register } = collect({ shared: { limit, local } });
    const all = () => scrape(register);
    const of = (samples: Map<string, number>, name: string) => samples.get(`relay_limiter_${name}`);
    for (let n = 0; n < 3; n += 1) await limit.checkAsync('p');
    local.check('p');
    const before = await all();
    expect(of(before, 'shared_checks_total{limiter="limit",verdict="allow"}')).toBe(3);
    expect(of(before, 'shared_overload_checks_total{limiter="limit"}')).toBe(0);
    expect(of(before, 'shared_checks_total{limiter="local",verdict="allow"}')).toBe(1);
    expect(of(before, 'fleet_checks_total{limiter="limit",verdict="allow"}')).toBe(undefined);
    expect(of(before, 'leased_tokens{limiter="limit"}')).toBe(2);
    expect(of(before, 'shared_tracked_peers{limiter="limit"}')).toBe(1);
    expect(of(before, 'store_up{limiter="limit"}')).toBe(1);
    expect(of(before, 'store_up{limiter="local"}')).toBe(undefined);
    expect(of(before, 'store_nodes{limiter="limit"}')).toBe(3);
    expect(of(before, 'store_calls_total{limiter="limit",kind="peer"}')).toBe(2);
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
    const back = await all();
    expect(of(back, 'store_up{limiter="limit"}')).toBe(1);
    const fleet = ['allow', 'delay', 'disconnect'].map((verdict) =>
      of(back, `fleet_checks_total{limiter="limit",verdict="${verdict}"}`),
    );
    expect(fleet).toEqual([40, 30, 20]);
    expect(of(back, 'fleet_checks_total{limiter="local",verdict="allow"}')).toBe(undefined);
  });

  test('exports the statistics of SharedBans', async () => {
    const bans = sharedBans();
    const { register } = collect({ shared: { bans } });
    bans.ban('mallory', 60);
    const samples = await scrape(register);
    const of = (name: string) => samples.get(`relay_limiter_${name}{limiter="bans"}`);
    expect(of('shared_bans')).toBe(1);
    expect(of('shared_bans_up')).toBe(0);
    expect(of('shared_bans_waiting')).toBe(1);
    // SharedBans have no metrics of a store.
    expect(of('store_up')).toBe(undefined);
  });
});

describe('collectMetrics', () => {
  const limiters = { messages: new RateLimiter({ engine: 'js' }) };

  test.each<[string, object]>([
    ['a missing prom-client', { limiters }],
    ['a client that is not prom-client', { client: {}, limiters }],
    ['an invalid register', { client, limiters, register: {} }],
    ['missing limiters', { client }],
    ['an empty array of limiters', { client, limiters: [] }],
    ['a value that is no limiter', { client, limiters: { messages: new Map() } }],
    ['a prefix that is invalid in a metric name', { client, limiters, prefix: 'relay-limiter-' }],
    ['empty shared limiters and missing limiters', { client, shared: {} }],
    [
      'a local limiter as a shared one',
      { client, shared: { messages: new RateLimiter({ engine: 'js' }) } },
    ],
    ['an unknown option', { client, limiters, registry: client.register }],
  ])('rejects %s', (_, options) => {
    expect(codeOf(() => collectMetrics(options as MetricsOptions))).toBe('ERR_LIMITER_OPTION');
  });

  test("uses prom-client's default register and a given prefix", async () => {
    const collection = collectMetrics({ client, limiters, prefix: 'relay_' });
    expect(await client.register.metrics()).toContain('relay_checks_total{');
    collection.stop();
    expect(await client.register.metrics()).not.toContain('relay_checks_total');
  });

  test('registers nothing if a metric name is already registered', async () => {
    const register = new Registry();
    const name = 'relay_limiter_table_bytes';
    new Counter({ name, help: 'Registered by other code', registers: [register] });
    expect(() => collectMetrics({ client, limiters, register })).toThrow('already been registered');
    expect(register.getMetricsAsArray().map((metric) => metric.name)).toEqual([name]);
  });
});

describe('the Grafana dashboard', () => {
  const targets = grafana.panels.flatMap((panel) => ('targets' in panel ? panel.targets : []));
  const expressions = targets.map(({ expr }) => expr).join('\n');
  const named = new Set(expressions.match(/\b(relay_limiter|nodejs|process)_\w+/g));

  async function collected() {
    const messages = new RateLimiter();
    const relay = new RuleLimiter({
      engine: 'js',
      scopes: { address: {} },
      rules: { messages: { scope: 'address', rateLimit: 1 } },
    });
    const shared = { limit: await sharedLimit(), bans: sharedBans() };
    const deliveries = { sent: 0, droppedSlow: 0, droppedRate: 0 };
    const guard = { getStats: () => ({ ...new GuardCounters().stats(0), deliveries }) };
    const { register } = collect({ limiters: { messages, relay }, shared, guards: { guard } });
    client.collectDefaultMetrics({ register });
    messages.check('a');
    return scrape(register);
  }

  test('uses every collected metric and no other', async () => {
    const names = new Set([...(await collected()).keys()].map((key) => key.replace(/\{.*/, '')));
    // The TypeScript engine does not report its memory.
    if (!TESTS_NATIVE) names.add('relay_limiter_table_bytes');
    for (const name of named) expect(names).toContain(name);
    const ours = [...names].filter((name) => name.startsWith('relay_limiter_'));
    expect(ours.filter((name) => !named.has(name))).toEqual([]);
  });

  test('can be imported with any data source', () => {
    expect(grafana.templating.list.map(({ name }) => name)).toEqual([
      'datasource',
      'limiter',
      'guard',
    ]);
    for (const target of targets) {
      expect(target.datasource.uid).toBe(`$${'{datasource}'}`);
    }
    for (const expression of expressions.split('\n').filter((line) => line.includes('relay_'))) {
      const name = expression.includes('relay_limiter_guard_') ? 'guard' : 'limiter';
      expect(expression).toContain(`${name}=~"$${name}"`);
    }
    const ids = grafana.panels.map(({ id }) => id);
    expect(new Set(ids).size).toBe(ids.length);
    expect(grafana.id).toBe(null);
  });
});
