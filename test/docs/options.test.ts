// Each option is on the page of its entry. The names come from the error of an unknown option, so no list of them stands here.

import { createServer } from 'node:net';
import {
  DirectConnectionRateLimiter,
  OrderbookRateLimiter,
  RateLimiter,
  RuleLimiter,
} from 'relay-limiter';
import { limitFetch, PolicyLimiter, PolicyLimiterGroup, UpstreamPool } from 'relay-limiter/client';
import { createDashboard } from 'relay-limiter/dashboard';
import { rateLimit } from 'relay-limiter/http';
import { collectMetrics } from 'relay-limiter/metrics';
import { guardConnections, guardLineServer } from 'relay-limiter/net';
import {
  SharedBans,
  SharedPolicyLimiter,
  SharedRateLimiter,
  SharedRuleLimiter,
} from 'relay-limiter/redis';
import { guardWebSocketServer } from 'relay-limiter/ws';
import { describe, expect, test } from 'vitest';
import { WebSocketServer } from 'ws';
import { textOf } from './pages.js';

/** The names that an error lists. */
function namesIn(call: () => unknown, list: RegExp): string[] {
  try {
    call();
  } catch (error) {
    return (list.exec((error as Error).message)?.[1] ?? '').split(', ');
  }
  return [];
}

const UNKNOWN = { nonsense: 1 } as never;
const POLICY = { quota: 1, windowSeconds: 1 };
const optionsOf = (call: () => unknown) => namesIn(call, /it takes (.*)$/);

/** The names in the first cells of a page's tables, without what is before a dot. */
function rowsOf(page: string): Set<string> {
  const cells = textOf(page).matchAll(/^\| ([^|]*)/gm);
  return new Set(
    [...cells].flatMap(([, cell = '']) =>
      [...cell.matchAll(/`(?:\w+\.)*(\w+)`/g)].map(([, name]) => name as string),
    ),
  );
}

test('docs/rules.md has a row for each field of a rule, and names those that a plan may change', () => {
  const scopes = { peer: {} };
  const fields = /no other fields than (.*), got/;
  const ofRule = namesIn(() => new RuleLimiter({ scopes, rules: { r: UNKNOWN } }), fields);
  const rows = rowsOf('docs/rules.md');
  expect(ofRule.length).toBeGreaterThan(1);
  expect(ofRule.filter((name) => !rows.has(name))).toEqual([]);
  const plans = { paid: { r: UNKNOWN } };
  const rules = { r: { scope: 'peer', rateLimit: 1 } };
  const ofPlan = namesIn(() => new RuleLimiter({ scopes, rules, plans }), fields);
  const sentence = /A plan may have other values for ([^.]*)/.exec(textOf('docs/rules.md'))?.[1];
  expect(ofPlan.filter((name) => !sentence?.includes(`\`${name}\``))).toEqual([]);
});

describe.each<[string, Record<string, () => unknown>]>([
  [
    'docs/limiters.md',
    {
      RateLimiter: () => new RateLimiter(UNKNOWN),
      OrderbookRateLimiter: () => new OrderbookRateLimiter(UNKNOWN),
      DirectConnectionRateLimiter: () => new DirectConnectionRateLimiter(UNKNOWN),
    },
  ],
  ['docs/rules.md docs/limiters.md', { RuleLimiter: () => new RuleLimiter(UNKNOWN) }],
  ['docs/http.md', { rateLimit: () => rateLimit(UNKNOWN) }],
  [
    'docs/servers.md',
    {
      guardWebSocketServer: () =>
        guardWebSocketServer(new WebSocketServer({ noServer: true }), UNKNOWN),
      guardLineServer: () => guardLineServer(createServer(), UNKNOWN),
      guardConnections: () => guardConnections(createServer(), UNKNOWN),
    },
  ],
  [
    'docs/fleet.md',
    {
      SharedRateLimiter: () => new SharedRateLimiter(UNKNOWN),
      SharedBans: () => new SharedBans(UNKNOWN),
    },
  ],
  [
    'docs/fleet.md docs/rules.md docs/limiters.md',
    { SharedRuleLimiter: () => new SharedRuleLimiter(UNKNOWN) },
  ],
  [
    'docs/client.md',
    {
      PolicyLimiter: () => new PolicyLimiter(UNKNOWN),
      PolicyLimiterGroup: () => new PolicyLimiterGroup(UNKNOWN),
    },
  ],
  [
    'docs/upstreams.md docs/client.md',
    {
      limitFetch: () => limitFetch(fetch, new PolicyLimiter({ policies: [POLICY] }), UNKNOWN),
      UpstreamPool: () => new UpstreamPool({}, UNKNOWN),
    },
  ],
  ['docs/fleet.md docs/client.md', { SharedPolicyLimiter: () => new SharedPolicyLimiter(UNKNOWN) }],
  [
    'docs/observability.md',
    {
      collectMetrics: () => collectMetrics(UNKNOWN),
      createDashboard: () => createDashboard(UNKNOWN),
    },
  ],
])('%s names each option of', (pages, entries) => {
  test.each(Object.entries(entries))('%s', (_, call) => {
    const names = optionsOf(call);
    const text = pages.split(' ').map(textOf).join('\n');
    const code = [...text.matchAll(/`([^`\n]+)`|^```[\s\S]*?^```/gm)].join('\n');
    expect(names.length).toBeGreaterThan(1);
    expect(names.filter((name) => !new RegExp(`\\b${name}\\b`).test(code))).toEqual([]);
  });
});
