// What the dashboard reads of fleets, and how often it asks the store, in virtual time.

import { createDashboard, type NamedFleets } from 'relay-limiter/dashboard';
import { SharedRateLimiter } from 'relay-limiter/redis';
import { beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { Feed } from '../../lib/dashboard/feed.js';
import { FleetFeed } from '../../lib/dashboard/fleet.js';
import { namedFleets } from '../../lib/dashboard/watched-fleets.js';
import { codeOf } from '../support/limiters.js';
import { limiters, served } from './support.js';

/** The time, in milliseconds. */
let now = 0;

beforeEach(() => {
  now = 5000;
  const spy = vi.spyOn(performance, 'now').mockImplementation(() => now);
  onTestFinished(() => spy.mockRestore());
});

/** A shared limit. `calls` counts the questions to its store. */
function fakeFleet() {
  return {
    calls: 0,
    fails: false,
    allow: 100,
    async getFleetStats() {
      this.calls += 1;
      if (this.fails) throw new Error('no store');
      const verdicts = { allow: this.allow, delay: this.allow * 2, disconnect: 7 };
      const offenders = [
        { key: 'flooder', refusals: 90 },
        { key: 'x'.repeat(5000), refusals: 3 },
      ];
      return { nodes: 4, verdicts, offenders };
    },
  };
}

/** Lists, and waits for the replies that the listing has asked for. */
async function listed(feed: { listing(): { fleets: readonly unknown[] } }): Promise<unknown> {
  const { fleets } = feed.listing();
  for (let n = 0; n < 5; n += 1) await Promise.resolve();
  return fleets[0];
}

const UNKNOWN = {
  name: 'messages',
  isLost: false,
  nodes: null,
  verdicts: null,
  perSecond: null,
  offenders: [],
};

describe('A shared limit on the dashboard', () => {
  test('is asked at most once in five seconds, however often it is listed', async () => {
    const fleet = fakeFleet();
    const feed = new FleetFeed(namedFleets({ messages: fleet }));
    expect(fleet.calls).toBe(0);
    expect(await listed(feed)).toEqual(UNKNOWN);
    for (let n = 0; n < 50; n += 1) await listed(feed);
    now += 4999;
    const first = await listed(feed);
    expect(fleet.calls).toBe(1);
    expect(first).toMatchObject({
      nodes: 4,
      verdicts: [100, 200, 7],
      perSecond: null,
      offenders: [
        { key: 'flooder', length: 7, refusals: 90 },
        { key: 'x'.repeat(2048), length: 5000, hash: expect.any(String), refusals: 3 },
      ],
    });
    now += 1;
    fleet.allow += 50;
    await listed(feed);
    expect(fleet.calls).toBe(2);
    expect(await listed(feed)).toMatchObject({ verdicts: [150, 300, 7], perSecond: [10, 20] });
  });

  test('has no rate after its totals began again', async () => {
    const fleet = fakeFleet();
    const feed = new FleetFeed(namedFleets({ messages: fleet }));
    await listed(feed);
    now += 5000;
    fleet.allow = 1;
    await listed(feed);
    expect(await listed(feed)).toMatchObject({ verdicts: [1, 2, 7], perSecond: null });
  });

  test('keeps what was known while its store does not answer', async () => {
    const fleet = fakeFleet();
    const feed = new FleetFeed(namedFleets({ messages: fleet }));
    await listed(feed);
    now += 5000;
    fleet.fails = true;
    await listed(feed);
    const lost = { isLost: true, nodes: 4, verdicts: [100, 200, 7], perSecond: null };
    expect(await listed(feed)).toMatchObject(lost);
    now += 5000;
    fleet.fails = false;
    await listed(feed);
    // The time without answers is in no rate.
    expect(await listed(feed)).toMatchObject({ isLost: false, perSecond: null });
  });

  test('is not asked again before it has answered', async () => {
    let answer = () => {};
    let calls = 0;
    const slow = {
      getFleetStats: () => {
        calls += 1;
        return new Promise<never>((_, reject) => {
          answer = () => reject(new Error('no store'));
        });
      },
    };
    const feed = new FleetFeed(namedFleets({ slow }));
    for (let n = 0; n < 5; n += 1) {
      await listed(feed);
      now += 5000;
    }
    expect(calls).toBe(1);
    answer();
    await listed(feed);
    now += 5000;
    await listed(feed);
    expect(calls).toBe(2);
  });

  test('may be a SharedRuleLimiter, with offenders of scopes', async () => {
    const limits = {
      async getFleetStats() {
        return {
          nodes: 2,
          outcomes: { allow: 5, delay: 3, banned: 2, denied: 1 },
          offenders: [{ scope: 'address', key: '203.0.113.7', refusals: 6 }],
        };
      },
    };
    const feed = new FleetFeed(namedFleets({ limits }));
    await listed(feed);
    expect(await listed(feed)).toMatchObject({
      verdicts: [5, 3, 3],
      offenders: [{ scope: 'address', key: '203.0.113.7', length: 11, refusals: 6 }],
    });
  });

  test('may be a SharedRateLimiter', async () => {
    const messages = new SharedRateLimiter({ mode: 'local', rateLimit: 1, burstLimit: 2 });
    for (let n = 0; n < 5; n += 1) messages.check('flooder');
    const feed = new Feed([], [], namedFleets({ messages }));
    onTestFinished(() => feed.close());
    await listed(feed);
    expect(await listed(feed)).toMatchObject({
      nodes: 1,
      verdicts: [2, 3, 0],
      offenders: [{ key: 'flooder', refusals: 3 }],
    });
  });
});

describe('Shared bans on the dashboard', () => {
  test('are listed with their number and the longest of them', () => {
    let fails = false;
    const bans = {
      share() {},
      getBans(most = 100) {
        if (fails) throw new Error('clock');
        const all = Array.from({ length: 30 }, (_, n): [string, number] => [
          `peer-${n}`,
          n === 0 ? Infinity : 100 - n,
        ]);
        return { count: 30, bans: all.slice(0, most) };
      },
    };
    const feed = new FleetFeed(namedFleets({ bans }));
    const [listing] = feed.listing().sharedBans;
    expect(listing).toMatchObject({ name: 'bans', banned: 30 });
    expect(listing?.bans).toHaveLength(10);
    expect(listing?.bans[0]).toEqual({ key: 'peer-0', length: 6, secondsLeft: 'forever' });
    expect(listing?.bans[1]).toMatchObject({ secondsLeft: 99 });
    now += 5000;
    fails = true;
    expect(feed.listing().sharedBans).toEqual([]);
  });

  test('are listed less often if that takes long', () => {
    let reads = 0;
    const bans = {
      share() {},
      getBans() {
        reads += 1;
        now += 1000;
        return { count: 0, bans: [] };
      },
    };
    const feed = new FleetFeed(namedFleets({ bans }));
    const listFor = (seconds: number) => {
      for (let n = 0; n < seconds; n += 5) {
        feed.listing();
        now += 5000;
      }
    };
    listFor(45);
    expect(reads).toBe(1);
    listFor(10);
    expect(reads).toBe(2);
  });
});

describe('The option shared', () => {
  test.each<[string, unknown]>([
    ['an array', [fakeFleet()]],
    ['a limiter', { messages: limiters().messages }],
    ['null', null],
  ])('is not %s', (_, shared) => {
    const options = { limiters: limiters(), shared } as never;
    expect(codeOf(() => createDashboard(options))).toBe('ERR_LIMITER_OPTION');
  });

  test('suffices without limiters, and does not if it is empty', () => {
    const make = (shared: NamedFleets) => createDashboard({ shared }).close();
    expect(codeOf(() => make({}))).toBe('ERR_LIMITER_OPTION');
    make({ messages: fakeFleet() });
  });

  test('makes no call of the store while no page is open', async () => {
    const fleet = fakeFleet();
    await served({ shared: { fleet } });
    expect(fleet.calls).toBe(0);
  });
});
