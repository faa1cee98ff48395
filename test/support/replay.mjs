// Replays a golden trace of the Python reference, bit for bit; plain JavaScript, so that every runtime
// can do it. A file: gzipped JSON lines. The first is the header; each other one an operation, its
// result last; keys are indexes into the header's list. The first difference is thrown.

import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';

// Two methods of the reference that take a violation count instead of a peer.
const BY_COUNT = { _get_effective_interval: expectInterval, _get_backoff_level_name: expectLevel };

export function readTrace(file) {
  const lines = gunzipSync(readFileSync(file)).toString('latin1').trim().split('\n');
  const [header, ...operations] = lines.map((line) => JSON.parse(line));
  return { header, operations };
}

/** Replays a trace on the limiters of `library`, the exports of the package; returns how many operations. */
export function replay({ header, operations }, library, engine) {
  const options = Object.fromEntries(
    Object.entries(header.args).map(([name, value]) => [camelCase(name), value ?? undefined]),
  );
  let now = header.start;
  const subject = create(library, header.cls, { ...options, engine, clock: () => now });
  for (const [index, [name, ...rest]] of operations.entries()) {
    const expected = rest.pop();
    const where = `line ${index + 2}, ${name}(${rest})`;
    if (name === 'advance' || name === 'set') {
      now = expected;
    } else if (name === 'get') {
      same(subject[camelCase(rest[0])], expected, where);
    } else if (name in BY_COUNT) {
      const make = (more) => create(library, header.cls, { ...options, engine, ...more });
      BY_COUNT[name](make, rest[0], expected, where);
    } else {
      const keyed = !name.startsWith('cleanup') && header.cls !== 'TokenBucket';
      const given = keyed ? rest.map((key) => header.keys[key]) : rest;
      const result = subject[camelCase(name)](...given);
      if (!name.startsWith('get_stat')) same(result ?? null, expected, where);
      else sameStatistics(subject, result, expected, header.keys, where);
    }
  }
  return operations.length;
}

function create(library, cls, options) {
  if (cls !== 'TokenBucket') return new library[cls](options);
  const { capacity, refillRate, clock } = options;
  return new library.TokenBucket(capacity, refillRate, { clock });
}

function same(actual, expected, where) {
  if (Array.isArray(expected)) {
    same(actual.length, expected.length, where);
    for (const [i, value] of expected.entries()) same(actual[i], value, where);
  } else if (!Object.is(actual, expected)) {
    throw new Error(`${where}: expected ${show(expected)}, got ${show(actual)}`);
  }
}

function show(value) {
  return Object.is(value, -0) ? '-0' : JSON.stringify(value);
}

function sameStatistics(subject, actual, expected, keys, where) {
  for (const [name, value] of Object.entries(expected)) {
    const ours = actual[camelCase(name)];
    if (name === 'top_violators') sameViolators(subject, ours, value, keys, where);
    else if (Array.isArray(value))
      same(
        ours,
        value.map((key) => keys[key]),
        where,
      );
    else same(ours, value, where);
  }
}

/** The same counts in the same order, each key with its own; which of equals is named may differ (Q3). */
function sameViolators(subject, ours, theirs, keys, where) {
  same(
    ours.map(([, count]) => count),
    theirs.map(([, count]) => count),
    where,
  );
  same(new Set(ours.map(([key]) => key)).size, ours.length, where);
  for (const [key, count] of ours) same(subject.getViolationCount(key), count, where);
  const least = theirs.at(-1)?.[1] ?? 0;
  const above = (pairs) =>
    pairs
      .filter(([, n]) => n > least)
      .map(([key]) => key)
      .sort();
  same(above(ours), above(theirs.map(([key, n]) => [keys[key], n])), where);
}

/** A peer with that many violations is refused just before the interval, and allowed right at it. */
function expectInterval(make, violations, interval, where) {
  if (interval === 0) {
    same(make({}).interval, 0, where);
    return;
  }
  const allowedAfter = (seconds) => {
    let now = 0;
    const limiter = make({ violationBanThreshold: 1_000_000, clock: () => now });
    for (let n = 0; n <= violations; n += 1) limiter.check('peer');
    same(limiter.getViolationCount('peer'), violations, where);
    now = seconds;
    return limiter.check('peer');
  };
  same(allowedAfter(interval), true, where);
  same(allowedAfter(interval * (1 - Number.EPSILON)), false, where);
}

function expectLevel(make, violations, expected, where) {
  const limiter = make({ interval: 1, banDuration: 1e9, clock: () => 0 });
  while (limiter.getViolationCount('peer') < violations) limiter.check('peer');
  same(limiter.getBackoffLevel('peer'), expected, where);
}

export function camelCase(name) {
  return name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase());
}
