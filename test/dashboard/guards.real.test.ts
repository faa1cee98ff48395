// Guards on the dashboard: the stream of events has their counts, and the page makes rows of them.

import { createDashboard, type WatchedGuard } from 'relay-limiter/dashboard';
import { describe, expect, test } from 'vitest';
import { guardRows } from '../../lib/dashboard/page/guards.js';
import { codeOf } from '../support/limiters.js';
import { few } from '../support/sockets.js';
import { guardedVirtually } from '../ws/virtual.js';
import { events, limiters, served } from './support.js';

const DELIVERIES = { sent: 20, droppedSlow: 5, droppedRate: 8 };
const OTHER: WatchedGuard = {
  getStats: () => ({
    connections: { open: 7, paused: 2, accepted: 9, refused: { ban: 3 }, closed: { slow: 1 } },
    messages: { passed: 50, delayed: 4, dropped: { rate: 6 } },
    deliveries: DELIVERIES,
  }),
};

describe('A guard on the dashboard', () => {
  test('is listed with what it has counted up to the last sample', async () => {
    const { guard, connect } = guardedVirtually({
      connections: { limiter: few(1) },
      messages: { limiter: few(2) },
    });
    const { url } = await served({ guards: { relay: guard }, intervalSeconds: 0.05 });
    const stream = await events(url);
    expect((await stream.next('hello')).hasGuards).toBe(true);
    const socket = connect();
    connect();
    socket.receive('a', 'b', 'c');
    for (;;) {
      const { guards } = await stream.next('listing');
      if (guards[0]?.open !== 1) continue;
      expect(guards).toMatchObject([
        {
          name: 'relay',
          open: 1,
          paused: 0,
          refused: { rate: 1, ban: 0 },
          dropped: { rate: 1 },
          closed: { disconnect: 0 },
        },
      ]);
      break;
    }
  });

  test('is left out while its statistics throw', async () => {
    let isBroken = false;
    const broken: WatchedGuard = {
      getStats() {
        if (isBroken) throw new Error('no statistics');
        return OTHER.getStats();
      },
    };
    const guards = { broken, other: OTHER };
    const { url } = await served({ guards, intervalSeconds: 0.05 });
    const stream = await events(url);
    const { listing } = await stream.next('hello');
    expect(listing.guards.map(({ name }) => name)).toEqual(['broken', 'other']);
    isBroken = true;
    for (;;) {
      const { guards } = await stream.next('listing');
      if (guards.length === 2) continue;
      expect(guards.map(({ name }) => name)).toEqual(['other']);
      break;
    }
  });

  test('has a row for each reason that has occurred, most frequent first', async () => {
    const { url } = await served({ guards: { other: OTHER }, intervalSeconds: 3600 });
    const { listing } = await (await events(url)).next('hello');
    const none = { refused: 0, dropped: 0, closed: 0 };
    expect(guardRows(listing.guards)).toEqual([
      { guard: 'other', open: 7, paused: 2, refused: 3, dropped: 19, closed: 1 },
      { guard: 'other', reason: 'delivery rate', ...none, dropped: 8 },
      { guard: 'other', reason: 'rate', ...none, dropped: 6 },
      { guard: 'other', reason: 'slow', ...none, dropped: 5, closed: 1 },
      { guard: 'other', reason: 'ban', ...none, refused: 3 },
    ]);
  });

  test('is not needed', async () => {
    const { url } = await served();
    const { hasGuards, listing } = await (await events(url)).next('hello');
    expect([hasGuards, listing.guards]).toEqual([false, []]);
  });

  test.each<[string, unknown]>([
    ['an array', [OTHER]],
    ['a limiter', { messages: limiters().messages }],
    ['a function', { relay: () => {} }],
  ])('is not %s', (_, guards) => {
    const options = { limiters: limiters(), guards } as never;
    expect(codeOf(() => createDashboard(options))).toBe('ERR_LIMITER_OPTION');
  });
});
