// parseProblem and formatProblem beyond the vectors.

import { formatProblem, parseProblem } from 'relay-limiter/headers';
import { describe, expect, it } from 'vitest';

const BASE = 'https://iana.org/assignments/http-problem-types';
const NONE = { problem: null, violated: [] };

describe('parseProblem', () => {
  it.each([
    undefined,
    null,
    7,
    '',
    'slow down',
    '{"type": "',
    '"https://iana.org/assignments/http-problem-types#quota-exceeded"',
    [],
    {},
    { type: 5 },
    { type: 'about:blank' },
    { type: `${BASE}#other` },
    { type: `${BASE}#quota-exceeded-2` },
    { type: `https://example.org/?${BASE}#quota-exceeded` },
    JSON.stringify({ type: `${BASE}#quota-exceeded`, detail: 'x'.repeat(65_536) }),
  ])('finds no problem in %j', (body) => {
    expect(parseProblem(body, 429)).toStrictEqual(NONE);
  });

  it.each([
    ['hourly', []],
    [{ 0: 'hourly' }, []],
    [
      ['hourly', 5, null, 'daily'],
      ['hourly', 'daily'],
    ],
    [Array.from({ length: 1000 }, (_, n) => `${n}`), Array.from({ length: 64 }, (_, n) => `${n}`)],
  ])('reads the violated policies %j', (violated, names) => {
    const body = { type: `${BASE}#quota-exceeded`, 'violated-policies': violated };
    expect(parseProblem(body)).toStrictEqual({ problem: 'quota-exceeded', violated: names });
  });

  it('finds no problem in a response with a status below 400', () => {
    const body = { type: `${BASE}#quota-exceeded` };
    expect(parseProblem(body, 200)).toStrictEqual(NONE);
    expect(parseProblem(body, 399)).toStrictEqual(NONE);
    expect(parseProblem(body, 400).problem).toBe('quota-exceeded');
    expect(parseProblem(body, 403).problem).toBe('quota-exceeded');
  });
});

describe('formatProblem', () => {
  it.each([
    { problem: 'quota-exceeded' as const, violated: [] },
    { problem: 'temporary-reduced-capacity' as const, violated: ['hourly'] },
    { problem: 'abnormal-usage-detected' as const, violated: ['"', 'daily'] },
  ])('writes what parseProblem reads back: %j', (problem) => {
    expect(parseProblem(formatProblem(problem, 429), 429)).toStrictEqual(problem);
  });

  it('writes the members of RFC 9457 and none without a value', () => {
    const problem = 'quota-exceeded';
    expect(JSON.parse(formatProblem({ problem, violated: ['hourly'] }, 503, 'Later.'))).toEqual({
      type: `${BASE}#quota-exceeded`,
      title: 'Quota exceeded',
      status: 503,
      detail: 'Later.',
      'violated-policies': ['hourly'],
    });
    expect(Object.keys(JSON.parse(formatProblem({ problem, violated: [] }, 429)))).toEqual([
      'type',
      'title',
      'status',
    ]);
  });
});
