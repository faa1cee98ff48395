// What the dashboard reads from limiters and how often, in virtual time.

import type { NamedLimiters } from 'relay-limiter/dashboard';
import { beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { Feed } from '../../dist/dashboard/feed.js';
import { ban, limiters, MEMORY } from './support.js';

/** The time, in milliseconds. */
let now = 0;

beforeEach(() => {
  now = 5000;
  const spy = vi.spyOn(performance, 'now').mockImplementation(() => now);
  onTestFinished(() => spy.mockRestore());
});

function feedOf(limiters: NamedLimiters) {
  const feed = new Feed(Object.entries(limiters));
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
