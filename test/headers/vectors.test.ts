// The vectors: headers of all generations and their meaning, lenient and strict, in all containers for fields.

import { readFileSync } from 'node:fs';
import {
  parseProblem,
  parseRateLimitHeaders,
  type RateLimitInfo,
  type ResponseHeaders,
} from 'relay-limiter/headers';
import { describe, expect, it } from 'vitest';

interface Vector {
  id: string;
  headers: [name: string, value: string][];
  expect: RateLimitInfo;
  /** The result in strict mode, if it differs. */
  expectStrict?: RateLimitInfo;
}

const {
  nowMs: now,
  count,
  vectors,
  problemTypes,
}: {
  nowMs: number;
  count: number;
  vectors: Vector[];
  problemTypes: { ref: string; status: number; body: object; expect: object }[];
} = JSON.parse(readFileSync(new URL('vectors.json', import.meta.url), 'utf8'));

type Lines = Vector['headers'];

const HOLDERS: Record<string, (lines: Lines) => ResponseHeaders> = {
  'an array of pairs': (lines) => lines,
  Headers: (lines) => new Headers(lines),
  'a record': (lines) => {
    const record: Record<string, string | string[]> = {};
    for (const [name, value] of lines) {
      const before = record[name];
      record[name] = before === undefined ? value : [before, value].flat();
    }
    return record;
  },
};

it('the vectors are complete', () => {
  expect(vectors).toHaveLength(count);
  expect(new Set(vectors.map(({ id }) => id)).size).toBe(count);
});

describe.each(Object.entries(HOLDERS))('parseRateLimitHeaders from %s', (_, hold) => {
  it.each(vectors)('reads the vector $id', (vector) => {
    const headers = hold(vector.headers);
    expect(parseRateLimitHeaders(headers, { now })).toStrictEqual(vector.expect);
    expect(parseRateLimitHeaders(headers, { now, strict: true })).toStrictEqual(
      vector.expectStrict ?? vector.expect,
    );
  });
});

describe('parseProblem', () => {
  it.each(problemTypes)('reads the problem of $ref', ({ body, status, expect: expected }) => {
    expect(parseProblem(body, status)).toStrictEqual(expected);
    expect(parseProblem(JSON.stringify(body))).toStrictEqual(expected);
  });
});
