// Metrics of guards: each test parses the text that a Prometheus server scrapes.

import client, { Registry } from 'prom-client';
import { RateLimiter } from 'relay-limiter';
import { collectMetrics, type MetricsOptions, type WatchedGuard } from 'relay-limiter/metrics';
import { describe, expect, onTestFinished, test } from 'vitest';
import { codeOf } from '../support/limiters.js';
import { few } from '../support/sockets.js';
import { guardedVirtually } from '../ws/virtual.js';

/** A guard with all counts. */
const OTHER: WatchedGuard = {
  getStats: () => ({
    connections: { open: 7, paused: 2, accepted: 9, refused: { ban: 3 }, closed: { slow: 1 } },
    messages: { passed: 50, delayed: 4, dropped: { rate: 6 } },
    deliveries: { sent: 20, droppedSlow: 5, droppedRate: 8 },
  }),
};

/** The lines of one scrape. */
async function scrape(options: Omit<MetricsOptions, 'client'>): Promise<string[]> {
  const register = new Registry();
  const collection = collectMetrics({ client, register, ...options });
  onTestFinished(() => collection.stop());
  return (await register.metrics()).split('\n').filter((line) => line !== '');
}

const valuesOf = (lines: readonly string[]) => lines.filter((line) => !line.startsWith('#'));

describe('collectMetrics with guards', () => {
  test('exports every count of a guard, by reason', async () => {
    const lines = await scrape({ guards: { relay: OTHER } });
    expect(valuesOf(lines).sort()).toEqual([
      'relay_limiter_guard_connections_accepted_total{guard="relay"} 9',
      'relay_limiter_guard_connections_closed_total{guard="relay",reason="slow"} 1',
      'relay_limiter_guard_connections_refused_total{guard="relay",reason="ban"} 3',
      'relay_limiter_guard_connections{guard="relay"} 7',
      'relay_limiter_guard_deliveries_dropped_total{guard="relay",reason="rate"} 8',
      'relay_limiter_guard_deliveries_dropped_total{guard="relay",reason="slow"} 5',
      'relay_limiter_guard_deliveries_sent_total{guard="relay"} 20',
      'relay_limiter_guard_messages_delayed_total{guard="relay"} 4',
      'relay_limiter_guard_messages_dropped_total{guard="relay",reason="rate"} 6',
      'relay_limiter_guard_messages_passed_total{guard="relay"} 50',
      'relay_limiter_guard_paused_connections{guard="relay"} 2',
    ]);
    expect(lines).toContain('# TYPE relay_limiter_guard_connections gauge');
    expect(lines).toContain('# TYPE relay_limiter_guard_connections_refused_total counter');
    const described = lines.filter((line) => line.startsWith('# HELP relay_limiter_guard_'));
    expect(described).toHaveLength(10);
  });

  test('exports the counts of a real guard, with usual reasons from the start and no key', async () => {
    const { guard, connect } = guardedVirtually({
      connections: { limiter: few(1) },
      messages: { limiter: few(2) },
    });
    const options = { guards: { 'door "1"': guard } };
    const before = valuesOf(await scrape(options));
    const socket = connect();
    connect();
    socket.receive('a', 'b', 'c', 'd');
    const after = valuesOf(await scrape(options));
    const label = 'guard="door \\"1\\""';
    const refused = `relay_limiter_guard_connections_refused_total{${label},reason="rate"}`;
    expect(before).toContain(`${refused} 0`);
    expect(after).toContain(`${refused} 1`);
    expect(after).toContain(`relay_limiter_guard_connections{${label}} 1`);
    expect(after).toContain(`relay_limiter_guard_messages_passed_total{${label}} 2`);
    expect(after).toContain(`relay_limiter_guard_messages_dropped_total{${label},reason="rate"} 2`);
    expect(after).toHaveLength(before.length);
    expect(after.join()).not.toContain('192.0.2.1');
  });

  test('exports guards beside limiters, each with its own label', async () => {
    const messages = new RateLimiter({ engine: 'js' });
    const lines = valuesOf(await scrape({ limiters: { messages }, guards: { relay: OTHER } }));
    const labels = new Set(lines.map((line) => /\{(\w+)=/.exec(line)?.[1]));
    expect([...labels]).toEqual(['limiter', 'guard']);
  });

  test('omits a guard whose statistics throw', async () => {
    let isBroken = false;
    const broken: WatchedGuard = {
      getStats() {
        if (isBroken) throw new Error('no statistics');
        return OTHER.getStats();
      },
    };
    const guards = { broken, relay: OTHER };
    const register = new Registry();
    const collection = collectMetrics({ client, register, guards });
    onTestFinished(() => collection.stop());
    expect(await register.metrics()).toContain('guard="broken"');
    isBroken = true;
    const text = await register.metrics();
    expect(text).not.toContain('guard="broken"');
    expect(text).toContain('relay_limiter_guard_connections{guard="relay"} 7');
  });

  test('reads each guard once per scrape', async () => {
    let reads = 0;
    const guard: WatchedGuard = {
      getStats() {
        reads += 1;
        return OTHER.getStats();
      },
    };
    const register = new Registry();
    const collection = collectMetrics({ client, register, guards: { guard } });
    onTestFinished(() => collection.stop());
    reads = 0;
    await register.metrics();
    expect(reads).toBe(1);
  });

  test.each<[string, unknown]>([
    ['no guard', {}],
    ['an array', [OTHER]],
    ['a limiter', { messages: new RateLimiter({ engine: 'js' }) }],
    ['an object without getStats', { relay: {} }],
    ['null', { relay: null }],
  ])('rejects %s', (_, guards) => {
    const options = { client, register: new Registry(), guards } as MetricsOptions;
    expect(codeOf(() => collectMetrics(options))).toBe('ERR_LIMITER_OPTION');
  });
});
