// The golden traces of the Python reference, replayed on both engines, bit for bit.

import { readdirSync } from 'node:fs';
import * as library from 'relay-limiter';
import { describe, expect, test } from 'vitest';
import { ENGINES } from './support/limiters.js';
import { readTrace, replay } from './support/replay.mjs';

const FOLDER = new URL('traces/', import.meta.url);
const FILES = ['dev', 'float'].flatMap((set) =>
  readdirSync(new URL(set, FOLDER)).map((file) => `${set}/${file}`),
);
const read = (file: string) => readTrace(new URL(file, FOLDER));
// The reference takes the first seconds of its clock for a peer's history; we do not (Q1).
const TRACES = FILES.map((file) => ({ file, trace: read(file) })).filter(
  ({ trace }) => !trace.header.tags.includes('boot'),
);

test('The traces are 100 files', () => {
  expect(FILES).toHaveLength(100);
});

describe.each(ENGINES)('The %s engine', (engine) => {
  test.each(TRACES)('returns the results of the trace $file', ({ trace }) => {
    expect(replay(trace, library, engine)).toBeGreaterThan(1000);
  });
});

test.each(ENGINES)('A trace with one wrong digit fails on the %s engine', (engine) => {
  const trace = read('float/RateLimiter-2001.jsonl.gz');
  const answers = trace.operations.map((operation) => operation.at(-1));
  const delayed = answers.filter((answer) => Array.isArray(answer) && answer[0] === 'delay');
  const delay = delayed.at(-1) as [string, number];
  delay[1] *= 1 + Number.EPSILON;
  expect(() => replay(trace, library, engine)).toThrow(/^line \d+, check\(.*\): expected /);
});
