import fc from 'fast-check';
import { expect, test } from 'vitest';
import { LineSplitter } from '../../dist/net/lines.js';
import { runs } from '../support/runs.js';

/** All lines of a stream that arrives in these chunks. */
function linesOf(chunks: readonly Buffer[], maxBytes = 1e6): string[] {
  const splitter = new LineSplitter(maxBytes);
  const lines: string[] = [];
  for (const chunk of chunks) {
    splitter.push(chunk);
    for (let line = splitter.next(); line !== undefined; line = splitter.next()) {
      lines.push(line.toString());
    }
  }
  const last = splitter.last();
  if (last !== undefined) lines.push(last.toString());
  return lines;
}

test('LineSplitter returns the same lines for every division into chunks', () => {
  const line = fc
    .string({ unit: 'grapheme', maxLength: 20 })
    .map((text) => text.replace(/[\r\n]/g, ''));
  const end = fc.constantFrom('\n', '\r\n');
  fc.assert(
    fc.property(fc.array(fc.tuple(line, end)), line, fc.array(fc.nat(500)), (pairs, last, cuts) => {
      const bytes = Buffer.from(pairs.map(([text, end]) => text + end).join('') + last);
      const places = [0, ...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length];
      places.sort((a, b) => a - b);
      const chunks = places.slice(1).map((place, n) => bytes.subarray(places[n], place));
      const expected = pairs.map(([text]) => text);
      expect(linesOf(chunks)).toEqual(last === '' ? expected : [...expected, last]);
    }),
    runs(),
  );
});

test('LineSplitter allows the longest line in any pieces with either line end, but not one byte more', () => {
  for (const end of ['\n', '\r\n']) {
    for (const size of [1, 3, 100]) {
      for (const length of [10, 11]) {
        const bytes = Buffer.from(`ab\n${'x'.repeat(length)}${end}cd\n`);
        const splitter = new LineSplitter(10);
        const lengths: number[] = [];
        for (let at = 0; at < bytes.length; at += size) {
          splitter.push(bytes.subarray(at, at + size));
          for (let line = splitter.next(); line !== undefined; line = splitter.next()) {
            lengths.push(line.length);
            if (line.length > 10) break;
          }
          if ((lengths.at(-1) ?? 0) > 10) break;
        }
        if (length === 10) expect(lengths).toEqual([2, 10, 2]);
        else expect(lengths.at(-1)).toBeGreaterThan(10);
      }
    }
  }
});

test('LineSplitter returns a line that is too long before its end has arrived', () => {
  const splitter = new LineSplitter(100);
  splitter.push(Buffer.alloc(60));
  expect(splitter.next()).toBeUndefined();
  splitter.push(Buffer.alloc(60));
  expect(splitter.next()?.length).toBeGreaterThan(100);
});

test('LineSplitter returns the same lines if its rest is taken and pushed again', () => {
  for (const withEnd of [true, false]) {
    const splitter = new LineSplitter(10);
    splitter.push(Buffer.from('a\r\n\nb\nc'));
    const lines: string[] = [];
    for (let line = splitter.next(); line !== undefined; line = splitter.next()) {
      lines.push(line.toString());
      const rest = splitter.takeRest(withEnd);
      if (withEnd) expect(rest[0]).toBe(10);
      splitter.push(Buffer.from(rest));
    }
    expect(lines).toEqual(['a', '', 'b']);
    expect(String(splitter.last())).toBe('c');
  }
});

test('LineSplitter keeps a CR inside a line', () => {
  expect(linesOf([Buffer.from('a\rb\r\r\n\r\n\n')])).toEqual(['a\rb\r', '', '']);
});
