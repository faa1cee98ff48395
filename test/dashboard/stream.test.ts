// How the page notices a server that hangs or closes, with an EventSource that the test controls.

import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { watch } from '../../lib/dashboard/page/stream.js';

class Source extends EventTarget {
  static readonly CLOSED = 2;
  static all: Source[] = [];
  readyState = 1;
  onerror: (() => void) | undefined;

  constructor() {
    super();
    Source.all.push(this);
  }

  close(): void {
    this.readyState = Source.CLOSED;
  }

  say(event: string, data: unknown): void {
    this.dispatchEvent(new MessageEvent(event, { data: JSON.stringify(data) }));
  }
}

let trouble: string | undefined = 'not yet';
let stop = () => {};

beforeEach(() => {
  Source.all = [];
  vi.useFakeTimers();
  vi.stubGlobal('EventSource', Source);
  stop = watch({
    hello() {},
    sample() {},
    listing() {},
    trouble(why) {
      trouble = why;
    },
  });
  Source.all[0]?.say('hello', { aliveSeconds: 2 });
  expect(trouble).toBe(undefined);
});

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

test.each(['alive', 'sample', 'listing'])(
  'a server that sends %s does not count as hanging',
  (event) => {
    for (let n = 0; n < 20; n += 1) {
      vi.advanceTimersByTime(5000);
      Source.all[0]?.say(event, {});
    }
    expect([trouble, Source.all.length]).toEqual([undefined, 1]);
  },
);

test('a silent server counts as hanging and is retried', () => {
  vi.advanceTimersByTime(6100);
  expect(trouble).toBe('The server does not answer; trying again');
  expect(Source.all.map(({ readyState }) => readyState)).toEqual([Source.CLOSED, 1]);
  vi.advanceTimersByTime(10_100);
  expect(Source.all).toHaveLength(3);
  Source.all[2]?.say('hello', { aliveSeconds: 2 });
  expect(trouble).toBe(undefined);
});

test('a lost connection does not count as hanging during retries', () => {
  const [source] = Source.all;
  for (let n = 0; n < 20; n += 1) {
    source?.onerror?.();
    vi.advanceTimersByTime(1000);
    expect(trouble).toMatch(/^The connection is lost/);
  }
  expect(Source.all).toHaveLength(1);
});

test('a stopped stream is closed and stays silent', () => {
  stop();
  expect(Source.all[0]?.readyState).toBe(Source.CLOSED);
  vi.advanceTimersByTime(60_000);
  expect([trouble, Source.all.length]).toEqual([undefined, 1]);
});

test('a refused stream is retried unless it is stopped', () => {
  vi.stubGlobal('fetch', async () => ({ status: 503 }));
  const refuse = () => {
    const source = Source.all.at(-1) as Source;
    source.readyState = Source.CLOSED;
    source.onerror?.();
  };
  refuse();
  vi.advanceTimersByTime(3100);
  expect(Source.all).toHaveLength(2);
  refuse();
  stop();
  vi.advanceTimersByTime(60_000);
  expect(Source.all).toHaveLength(2);
});
