// The options of the middleware: which values throw, and that they throw when the middleware is created.

import { RateLimiter } from 'relay-limiter';
import { rateLimit } from 'relay-limiter/http';
import { expect, test } from 'vitest';
import { codeOf } from '../support/limiters.js';

const limiter = new RateLimiter();

test.each<[string, unknown]>([
  ['no limit', {}],
  ['nothing', undefined],
  ['null', null],
  ['a number', 5],
  ['a limit of 0', { limit: 0 }],
  ['a limit that is no whole number', { limit: 1.5 }],
  ['a limit that is no number', { limit: '5' }],
  ['more than headers can say', { limit: 2 ** 53 - 1 }],
  ['a window of 0', { limit: 1, windowSeconds: 0 }],
  ['a window without end', { limit: 1, windowSeconds: Infinity }],
  ['a limiter that is none', { limiter: {} }],
  ['a limiter and a limit', { limiter, limit: 5 }],
  ['a limiter and a window', { limiter, windowSeconds: 5 }],
  ['a limiter and a shared table', { limiter, shared: 'api' }],
  ['a limiter and an engine', { limiter, engine: 'js' }],
  ['a key and proxies', { limit: 1, key: () => 'a', trustedProxies: 'loopback' }],
  ['a key and a subnet', { limit: 1, key: () => 'a', ipv6Subnet: 56 }],
  ['a key that is no function', { limit: 1, key: 'ip' }],
  ['a subnet that is none', { limit: 1, ipv6Subnet: 129 }],
  ['proxies that are none', { limit: 1, trustedProxies: 'example.org' }],
  ['proxies that are everybody', { limit: 1, trustedProxies: true }],
  ['a name that headers cannot say', { limit: 1, name: 'grüße' }],
  ['a name that is none', { limit: 1, name: 5 }],
  ['a negative cost', { limit: 1, cost: -1 }],
  ['a cost that is none', { limit: 1, cost: '1' }],
  ['skip that is no function', { limit: 1, skip: true }],
  ['an unknown draft', { limit: 1, headers: 8 }],
  ['an unknown draft among others', { limit: 1, headers: [11, 'draft-7'] }],
  ['drafts of one name', { limit: 1, headers: [11, 7] }],
  ['headers: true', { limit: 1, headers: true }],
  ['a status that refuses nothing', { limit: 1, statusCode: 200 }],
  ['a status that is none', { limit: 1, statusCode: 429.5 }],
  ['a status that is no number', { limit: 1, statusCode: '429' }],
  ['a message that is none', { limit: 1, message: 5 }],
  ['a handler that is none', { limit: 1, handler: {} }],
  ['a listener that is none', { limit: 1, onVerdict: 'log' }],
  ['warnings that are neither on nor off', { limit: 1, warnings: ['WARN_LIMITER_PROXY'] }],
  ["an option of express-rate-limit's", { limit: 1, windowMs: 1000 }],
])('rateLimit rejects an invalid option: %s', (_, options) => {
  expect(codeOf(() => rateLimit(options as never))).toBe('ERR_LIMITER_OPTION');
});

test('rateLimit rejects an unknown engine as a limiter does', () => {
  expect(codeOf(() => rateLimit({ limit: 1, engine: 'fast' as never }))).toBe('ERR_LIMITER_OPTION');
});

test('rateLimit accepts undefined for every optional option', () => {
  const names = [
    'windowSeconds',
    'limiter',
    'name',
    'key',
    'cost',
    'skip',
    'headers',
    'statusCode',
  ];
  const others = ['message', 'handler', 'onVerdict', 'engine', 'clock', 'trustedProxies'];
  const none = Object.fromEntries([...names, ...others].map((name) => [name, undefined]));
  rateLimit({ limit: 1, ...none }).close();
});
