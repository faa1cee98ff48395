// Lists that are read without structured-headers: the result is that of structured-headers.

import fc from 'fast-check';
import { parseList } from 'structured-headers';
import { describe, expect, it } from 'vitest';
import { readList } from '../../lib/headers/structured-fields.js';
import { runs } from '../support/runs.js';

// Without @ and .0, for which structured-headers needs corrections.
const PIECES = [
  '"a"',
  '"b c"',
  '"',
  '"é"',
  '"\\"',
  ';',
  '; ',
  ' ;',
  ';q=1',
  ';q=2',
  ';w=60',
  ';*k.-_=007',
];
const MORE = [
  ';r=-1',
  ';r=1.5',
  ';r',
  ';r="x"',
  ';R=1',
  ';r=999999999999999',
  ';r=1000000000000000',
];
const SEPARATORS = [',', ', ', '\t,\t', ' ', 'a', '1', ':YQ==:', '("a" "b")', '='];
const text = fc
  .array(fc.constantFrom(...PIECES, ...MORE, ...SEPARATORS), { maxLength: 9 })
  .map((pieces) => pieces.join(''));

function expected(list: string) {
  try {
    return parseList(list);
  } catch {
    return null;
  }
}

describe('a list of limits', () => {
  it.each([
    '"a";q=5000000;w=60',
    '"a";r=4999000;t=60',
    '"a";r=1, "b";  r=2;t=3',
    '"a";r=1\t,\t"b"',
    '"a";r=1;r=2;t=3;r=4',
    '""',
    '"a";r=1,',
    '"a";r=1, ',
    '"a";r=1 ',
    '"a";r=1,b',
    '"a" ;r=1',
    '"a";r=1000000000000000',
    '"a""b"',
    '',
  ])('is what structured-headers reads: %s', (list) => {
    expect(readList(list)).toStrictEqual(expected(list));
  });

  it('is what structured-headers reads, whatever its pieces are', () => {
    fc.assert(
      fc.property(text, (list) => {
        expect(readList(list)).toStrictEqual(expected(list));
      }),
      runs(2000),
    );
  });
});
