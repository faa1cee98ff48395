// What the dashboard reads from limiters and how often, in virtual time.

import type { NamedLimiters } from 'relay-limiter/dashboard';
import { beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { Feed } from '../../dist/dashboard/feed.js';
import { shownOf } from '../../dist/dashboard/shown.js';
import { namedLimiters } from '../../dist/rules/observable.js';
import { manualClock } from '../support/limiters.js';
import { ban, limiters, MEMORY, ruleLimiter } from './support.js';

/** The time, in milliseconds. */
let now = 0;

beforeEach(() => {
  now = 5000;
  const spy = vi.spyOn(performance, 'now').mockImplementation(() => now);
  onTestFinished(() => spy.mockRestore());
});

function feedOf(limiters: NamedLimiters) {
  const feed = new Feed(shownOf(namedLimiters(limiters)));
  onTestFinished(() => feed.close());
  return feed;
}

describe('A sample', () => {
  test('holds checks per second by verdict, peers, bans and memory of each limiter', () => {
    const { messages, books } = limiters();
    const feed = feedOf({ messages, books });
    for (let n = 0; n < 40; n += 1) messages.check('flooder');
    for (let n = 0; n < 5; n += 1) messages.check(`peer-${n}`);
    ban(books, 'mallory');
    now += 500;
    const sample = feed.sample();
    // 10 checks of the flooder and 5 others are allowed, 19 are delayed, and the rest are disconnected.
    expect(sample).toMatchObject({
      seconds: 0.5,
      loopDelay: expect.any(Number),
      limiters: [
        [30, 38, 22, 6, 0, MEMORY],
        [2, 2, 2, 1, 1, MEMORY],
      ],
    });
    now += 1000;
    expect(feed.sample()).toMatchObject({
      seconds: 1,
      limiters: [
        [0, 0, 0, 6, 0, MEMORY],
        [0, 0, 0, 1, 1, MEMORY],
      ],
    });
  });

  test('is kept with the 299 before it', () => {
    const feed = feedOf(limiters());
    for (let n = 0; n < 310; n += 1) {
      now += 1000 + n;
      feed.sample();
    }
    expect(feed.samples).toHaveLength(300);
    expect(feed.samples[0]?.seconds).toBe(1);
    expect(feed.samples[299]?.seconds).toBe(1.3);
  });
});

describe('Reading that is expensive', () => {
  test('takes at most 2% of the time', () => {
    const { messages } = limiters();
    const getOverview = messages.getOverview.bind(messages);
    let reads = 0;
    messages.getOverview = () => {
      reads += 1;
      now += 20;
      return getOverview();
    };
    const feed = feedOf({ messages });
    reads = 0;
    now += 1000;
    expect(feed.sample()).toBeDefined();
    feed.listing();
    expect(reads).toBe(2);
    // 49 times 20 ms after the sample; the listing has taken 20 ms of them.
    now += 959;
    expect(feed.sample()).toBeUndefined();
    const before = feed.listing();
    expect(reads).toBe(2);
    now += 1;
    expect(feed.sample()).toMatchObject({ seconds: 1 });
    expect(reads).toBe(3);
    expect(feed.listing()).not.toBe(before);
    expect(reads).toBe(4);
    expect(feed.listing(true)).not.toBe(before);
    expect(reads).toBe(5);
  });
});

describe('A list', () => {
  test('holds the last twenty bans that began, newest first, with their times', () => {
    const { books } = limiters();
    const feed = feedOf({ books });
    const spy = vi.spyOn(Date, 'now').mockImplementation(() => 1_000_000 + now);
    onTestFinished(() => spy.mockRestore());
    for (let n = 0; n < 25; n += 1) {
      now += 1000;
      ban(books, `nick-${n}`);
    }
    const { began } = feed.listing(true);
    expect(began).toHaveLength(20);
    expect(began[0]).toEqual({
      number: 25,
      limiter: 0,
      key: 'nick-24',
      length: 7,
      violations: 1,
      at: 1_000_000 + now,
      seconds: 600,
    });
    expect(began[19]).toMatchObject({ key: 'nick-5', at: 1_000_000 + now - 19_000 });
  });

  test('holds a ban that began, also where making the rest is too expensive', () => {
    const { books } = limiters();
    const feed = feedOf({ books });
    const getBans = books.getBans.bind(books);
    books.getBans = (most) => {
      now += 20;
      return getBans(most);
    };
    feed.listing();
    ban(books, 'mallory');
    const { bans, began } = feed.listing();
    expect([bans.length, began.length]).toEqual([0, 1]);
  });

  test('holds no bans of other limiters, and none after it is closed', () => {
    const { books } = limiters();
    const feed = feedOf({ books });
    ban(limiters().books, 'mallory');
    feed.close();
    ban(books, 'eve');
    expect(feed.listing(true).began).toEqual([]);
  });

  test('truncates long keys and keeps them distinct', () => {
    const { books } = limiters();
    const feed = feedOf({ books });
    for (const end of 'ab') ban(books, 'k'.repeat(5000) + end);
    const { began } = feed.listing(true);
    expect(began.map(({ key, length }) => [key.length, length])).toEqual([
      [2048, 5001],
      [2048, 5001],
    ]);
    expect(began[0]?.hash).not.toBe(began[1]?.hash);
  });
});

describe('A RuleLimiter', () => {
  const ADDRESS = '192.0.2.7';

  test('is sampled once: the outcomes of all checks, then the verdicts and peers of each scope', () => {
    const relay = ruleLimiter();
    const getStats = relay.getStats.bind(relay);
    let reads = 0;
    relay.getStats = () => {
      reads += 1;
      return getStats();
    };
    const { messages } = limiters();
    const feed = feedOf({ messages, relay });
    reads = 0;
    // Two are allowed, two refused, one begins a ban, five find it in force.
    for (let n = 0; n < 10; n += 1) relay.check({ address: ADDRESS, account: 'a' });
    now += 500;
    expect(feed.sample()?.limiters).toEqual([
      [0, 0, 0, 0, 0, MEMORY],
      [4, 4, 12, 2, 1, null],
      [4, 4, 2, 1, 1, null],
      [10, 0, 0, 1, 0, null],
    ]);
    expect(reads).toBe(1);
  });

  test('has a table of its rules, most refusals first, with the refusals per second since the last sample', () => {
    const clock = manualClock();
    const relay = ruleLimiter(clock);
    relay.check({ address: ADDRESS, account: 'a' }, 1000);
    const feed = feedOf({ relay });
    const rules = () =>
      feed
        .listing()
        .rules.map((r) => [r.rule, r.scope, r.whole, r.perSecond, r.refused, r.dryRunRefused]);
    // What was before the dashboard is no rate.
    expect(rules()).toEqual([
      ['messages', 'relay / address', 0, 0, 1, 0],
      ['events', 'relay / account', 0, 0, 1, 0],
      ['everybody', 'relay / server', 0, 0, 0, 1],
    ]);
    for (let n = 0; n < 3; n += 1) relay.check({ account: 'a' }, 1000);
    now += 2000;
    feed.sample();
    expect(rules()).toEqual([
      ['events', 'relay / account', 0, 1.5, 4, 0],
      ['messages', 'relay / address', 0, 0, 1, 0],
      ['everybody', 'relay / server', 0, 1.5, 0, 4],
    ]);
    // A rule that is replaced counts from 0; it has no negative rate.
    const one = { scope: 'account', rateLimit: 1, burstLimit: 1 };
    relay.update({ rules: { other: one } });
    relay.update({ rules: { events: one } });
    relay.check({ account: 'b' }, 2);
    now += 1000;
    feed.sample();
    expect(rules()).toEqual([['events', 'relay / account', 0, 1, 1, 0]]);
  });

  test('is left out while its clock throws, without a jump of its rates afterwards', () => {
    const clock = manualClock();
    let broken = false;
    const relay = ruleLimiter(() => {
      if (broken) throw new Error('no clock');
      return clock();
    });
    for (let n = 0; n < 5; n += 1) relay.check({ account: 'a' }, 1000);
    const feed = feedOf({ relay });
    broken = true;
    now += 1000;
    expect(feed.sample()?.limiters).toEqual([null, null, null]);
    expect(feed.listing().rules).toEqual([]);
    broken = false;
    now += 1000;
    expect(feed.sample()?.limiters[0]?.slice(0, 3)).toEqual([0, 0, 0]);
    expect(feed.listing().rules[0]).toMatchObject({ rule: 'events', perSecond: 0, refused: 5 });
  });

  test('lists bans and violators by scope, bans for ever first', () => {
    const relay = ruleLimiter();
    const feed = feedOf({ relay });
    for (let n = 0; n < 5; n += 1) relay.check({ address: ADDRESS });
    relay.ban('account', 'mallory', Infinity);
    const { bans, banned, violators, began } = feed.listing(true);
    expect(banned).toBe(2);
    expect(bans).toEqual([
      { limiter: 2, key: 'mallory', length: 7, violations: 0, secondsLeft: 'forever' },
      { limiter: 1, key: ADDRESS, length: 9, violations: 3, secondsLeft: 60 },
    ]);
    expect(violators).toEqual([{ limiter: 1, key: ADDRESS, length: 9, violations: 3 }]);
    // Bans by hand are not published.
    expect(began).toMatchObject([{ limiter: 1, key: ADDRESS, violations: 3, seconds: 60 }]);
  });
});
