// The golden traces of the Python reference, replayed on both engines, bit for bit.
// A file: gzipped JSON lines. The first is the header; each other one an operation, its result last;
// keys are indexes into the header's list.

import { readdirSync, readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import {
  DirectConnectionRateLimiter,
  type EngineName,
  OrderbookRateLimiter,
  RateLimiter,
  TokenBucket,
} from 'relay-limiter';
import { describe, expect, test } from 'vitest';
import { ENGINES, type ManualClock, manualClock } from './support/limiters.js';

interface Header {
  cls: string;
  args: Record<string, number | null>;
  start: number;
  tags: string[];
  keys: string[];
}
type Operation = [name: string, ...rest: unknown[]];
type Subject = Record<string, unknown>;

const FOLDER = new URL('traces/', import.meta.url);
const FILES = ['dev', 'float'].flatMap((set) =>
  readdirSync(new URL(set, FOLDER)).map((file) => `${set}/${file}`),
);
// Two methods of the reference that take a violation count instead of a peer.
const BY_COUNT = ['_get_effective_interval', '_get_backoff_level_name'];

test('all 100 files are there', () => {
  expect(FILES).toHaveLength(100);
});

describe.each(ENGINES)('%s', (engine) => {
  // The reference takes the first seconds of its clock for a peer's history; we do not (Q1).
  const files = FILES.filter((file) => !read(file).header.tags.includes('boot'));
  test.each(files)('%s', (file) => replay(file, engine));
});

function read(file: string): { header: Header; operations: Operation[] } {
  const lines = gunzipSync(readFileSync(new URL(file, FOLDER)))
    .toString('latin1')
    .trim()
    .split('\n');
  const [header, ...operations] = lines.map((line) => JSON.parse(line));
  return { header, operations };
}

function replay(file: string, engine: EngineName): void {
  const { header, operations } = read(file);
  const clock = manualClock(header.start);
  const options = Object.fromEntries(
    Object.entries(header.args).map(([name, value]) => [camelCase(name), value ?? undefined]),
  );
  const subject = create(header.cls, options, engine, clock);
  for (const [line, operation] of operations.entries()) {
    const where = `${file}:${line + 2} ${JSON.stringify(operation)}`;
    const [name, ...rest] = operation;
    const expected = rest.pop();
    if (name === 'advance' || name === 'set') {
      clock.now = expected as number;
    } else if (name === 'get') {
      same(subject[camelCase(rest[0] as string)], expected, where);
    } else if (BY_COUNT.includes(name)) {
      const byCount = name === BY_COUNT[0] ? expectInterval : expectLevel;
      byCount(options, engine, rest[0] as number, expected, where);
    } else {
      const keyed = !name.startsWith('cleanup') && header.cls !== 'TokenBucket';
      const given = keyed ? rest.map((index) => header.keys[index as number]) : rest;
      const method = subject[camelCase(name)] as (...given: unknown[]) => unknown;
      const result = method.apply(subject, given);
      if (name.startsWith('get_stat')) {
        sameStatistics(subject, result as Subject, expected as Subject, header.keys, where);
      } else {
        same(result ?? null, expected, where);
      }
    }
  }
}

function create(cls: string, options: Subject, engine: EngineName, clock: ManualClock): Subject {
  const all = { ...options, engine, clock };
  switch (cls) {
    case 'TokenBucket':
      return new TokenBucket(options['capacity'] as number, options['refillRate'] as number, {
        clock,
      }) as unknown as Subject;
    case 'RateLimiter':
      return new RateLimiter(all) as unknown as Subject;
    case 'OrderbookRateLimiter':
      return new OrderbookRateLimiter(all) as unknown as Subject;
    case 'DirectConnectionRateLimiter':
      return new DirectConnectionRateLimiter(all) as unknown as Subject;
    default:
      throw new Error(`no class for ${cls}`);
  }
}

function same(actual: unknown, expected: unknown, where: string): void {
  if (Array.isArray(expected)) {
    expect(actual, where).toHaveLength(expected.length);
    for (const [i, value] of expected.entries()) same((actual as unknown[])[i], value, where);
  } else if (!Object.is(actual, expected)) {
    // Only now, since an assertion costs more than an operation.
    expect(actual, where).toBe(expected);
  }
}

function sameStatistics(
  subject: Subject,
  actual: Subject,
  expected: Subject,
  keys: string[],
  where: string,
): void {
  for (const [name, value] of Object.entries(expected)) {
    const ours = actual[camelCase(name)];
    if (name === 'top_violators') {
      const theirs = value as [number, number][];
      sameViolators(subject, ours as [string, number][], theirs, keys, where);
    } else if (Array.isArray(value)) {
      expect(ours, where).toEqual(value.map((index) => keys[index]));
    } else {
      same(ours, value, where);
    }
  }
}

/** The same counts in the same order, each key with its own; which of equals is named may differ (Q3). */
function sameViolators(
  subject: Subject,
  ours: [string, number][],
  theirs: [number, number][],
  keys: string[],
  where: string,
): void {
  expect(
    ours.map(([, count]) => count),
    where,
  ).toEqual(theirs.map(([, count]) => count));
  expect(new Set(ours.map(([key]) => key)).size, where).toBe(ours.length);
  const violations = (subject['getViolationCount'] as (key: string) => number).bind(subject);
  for (const [key, count] of ours) expect(violations(key), where).toBe(count);
  const least = theirs.at(-1)?.[1] ?? 0;
  const above = (pairs: [string, number][]) => pairs.filter(([, n]) => n > least).map(([k]) => k);
  const named = theirs.map(([index, n]): [string, number] => [keys[index] as string, n]);
  expect(above(ours).sort(), where).toEqual(above(named).sort());
}

/** A peer with that many violations is refused just before the interval, and allowed right at it. */
function expectInterval(
  options: Subject,
  engine: EngineName,
  violations: number,
  expected: unknown,
  where: string,
): void {
  const interval = expected as number;
  if (interval === 0) {
    expect(options['interval'], where).toBe(0);
    return;
  }
  const allowedAfter = (seconds: number) => {
    const clock = manualClock(0);
    const limiter = new OrderbookRateLimiter({
      ...options,
      violationBanThreshold: 1_000_000,
      engine,
      clock,
    });
    for (let n = 0; n <= violations; n += 1) limiter.check('peer');
    expect(limiter.getViolationCount('peer'), where).toBe(violations);
    clock.now = seconds;
    return limiter.check('peer');
  };
  expect(allowedAfter(interval), where).toBe(true);
  expect(allowedAfter(interval * (1 - Number.EPSILON)), where).toBe(false);
}

function expectLevel(
  options: Subject,
  engine: EngineName,
  violations: number,
  expected: unknown,
  where: string,
): void {
  const limiter = new OrderbookRateLimiter({
    ...options,
    interval: 1,
    banDuration: 1e9,
    engine,
    clock: () => 0,
  });
  while (limiter.getViolationCount('peer') < violations) limiter.check('peer');
  expect(limiter.getBackoffLevel('peer'), where).toBe(expected);
}

function camelCase(name: string): string {
  return name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
}
