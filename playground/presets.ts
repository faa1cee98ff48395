// The scenarios that the page offers. The first one is shown at the start.

import type { Scenario } from './scenario.js';

export interface Preset extends Scenario {
  readonly title: string;
  /** What to look for. */
  readonly note: string;
}

export const PRESETS: readonly Preset[] = [
  {
    title: 'A flood',
    note:
      'The flooder drains its bucket, is refused, and is banned at the tenth refusal; each ban is longer than the one ' +
      'before. The others never notice. Lower the rate of “messages” until they do.',
    options: {
      scopes: { address: { kind: 'address' } },
      rules: { messages: { scope: 'address', rateLimit: 4, burstLimit: 20 } },
      bans: { address: { violations: 10, withinSeconds: 30, seconds: [5, 10, 20] } },
    },
    senders: [
      { name: 'flooder', keys: { address: '198.51.100.7' }, perSecond: 25, from: 10, until: 50 },
      { name: 'steady', keys: { address: '192.0.2.1' }, perSecond: 2 },
      { name: 'bursty', keys: { address: '192.0.2.2' }, perSecond: 1.5, atOnce: 15 },
    ],
  },
  {
    title: 'One token bucket',
    note:
      'At first the bucket is full, so a burst passes. Then messages pass at the rate of the bucket. The patient sender ' +
      'waits for the delay that each refusal names; it loses nothing.',
    options: {
      scopes: { peer: {} },
      rules: { messages: { scope: 'peer', rateLimit: 1, burstLimit: 10 } },
    },
    senders: [
      { name: 'below the rate', keys: { peer: 'a' }, perSecond: 0.8 },
      { name: 'above the rate', keys: { peer: 'b' }, perSecond: 3 },
      { name: 'patient', keys: { peer: 'c' }, perSecond: 2, atOnce: 20, until: 21, waits: true },
      { name: 'three bursts', keys: { peer: 'd' }, perSecond: 0.75, atOnce: 15 },
    ],
  },
  {
    title: 'Two limits for one peer',
    note:
      'A message must pass every rule, and a refused one takes no tokens from any of them. The short limit stops bursts, ' +
      'the long one stops who uses up every burst.',
    options: {
      scopes: { account: {} },
      rules: {
        burst: { scope: 'account', rateLimit: 2, burstLimit: 6 },
        'per minute': { scope: 'account', quota: 40, windowSeconds: 60 },
      },
    },
    senders: [
      { name: 'reader', keys: { account: 'alice' }, perSecond: 0.5 },
      { name: 'script', keys: { account: 'bob' }, perSecond: 2 },
      { name: 'burst script', keys: { account: 'carol' }, perSecond: 1, atOnce: 10 },
    ],
  },
  {
    title: 'A flood from many addresses',
    note:
      'Each of 40 addresses stays within its own limit. The rule of their network stops them, because they share its ' +
      'bucket. The neighbour in the same network pays for it: that is the price of limits by network.',
    options: {
      scopes: {
        address: { kind: 'address' },
        network: { from: 'address', ipv4Subnet: 24 },
        server: { single: true },
      },
      rules: {
        address: { scope: 'address', rateLimit: 2, burstLimit: 10 },
        network: { scope: 'network', rateLimit: 8, burstLimit: 40 },
        server: { scope: 'server', rateLimit: 100, burstLimit: 200 },
      },
      bans: { network: { violations: 200, withinSeconds: 60, seconds: 10 } },
    },
    senders: [
      { name: 'elsewhere', keys: { address: '192.0.2.1' }, perSecond: 1 },
      { name: 'neighbour', keys: { address: '198.51.100.200' }, perSecond: 1 },
      {
        name: 'botnet',
        keys: { address: '198.51.100.{n}' },
        peers: 40,
        perSecond: 40,
        from: 15,
        until: 45,
      },
    ],
  },
  {
    title: 'Plans',
    note:
      'The same rule has other numbers for those who pay. The upload limit counts bytes: a large message takes more ' +
      'tokens than a small one.',
    options: {
      scopes: { account: {} },
      rules: {
        requests: { scope: 'account', rateLimit: 1, burstLimit: 10 },
        upload: { scope: 'account', unit: 'bytes', rateLimit: 2000, burstLimit: 20_000 },
      },
      plans: {
        paid: {
          requests: { rateLimit: 5, burstLimit: 50 },
          upload: { rateLimit: 20_000, burstLimit: 200_000 },
        },
      },
    },
    senders: [
      { name: 'free', keys: { account: 'a' }, perSecond: 2, cost: { requests: 1, bytes: 500 } },
      {
        name: 'paid',
        keys: { account: 'b' },
        plan: 'paid',
        perSecond: 2,
        cost: { requests: 1, bytes: 500 },
      },
      {
        name: 'free, uploads',
        keys: { account: 'c' },
        perSecond: 0.5,
        cost: { requests: 1, bytes: 6000 },
      },
    ],
  },
];
