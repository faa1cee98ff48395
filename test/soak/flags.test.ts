// The flags of `npm run soak`.

import { describe, expect, it } from 'vitest';
import { WrongFlag } from '../../examples/command-line.js';
import { readFlags } from '../../soak/flags.js';

describe('the soak command', () => {
  it('takes a number of seconds or of operations', () => {
    expect(readFlags([])).toMatchObject({ seconds: 600, operations: undefined });
    expect(readFlags(['--operations', '5'])).toMatchObject({ operations: 5 });
  });

  it.each([
    ...['--seconds 0', '--operations 0', '--operations x', '--seed x', '--engine rust'],
    ...['--flood', '--frobnicate', 'surplus'],
  ])('refuses %s', (args) => {
    expect(() => readFlags(args.split(' '))).toThrow(WrongFlag);
  });
});
