// The table of strategies that `npm run simulate` prints and the documentation shows.

import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { simulate } from '../../examples/strategies/simulate.js';
import { STRATEGIES } from '../../examples/strategies/strategies.js';
import { table } from '../../examples/strategies/table.js';

it('the table of strategies is in the documentation as npm run simulate prints it', () => {
  const outcomes = STRATEGIES.map(simulate);
  const documentation = readFileSync(new URL('../../docs/client.md', import.meta.url), 'utf8');
  expect(documentation).toContain(table(outcomes));
  // The published figures for the same policies and demand, as far as they are exact.
  const published: [at: number, sent: number, firstTenMinutes: number][] = [
    [0, 43_200, 1_800],
    [1, 43_204, 1_800],
    [2, 43_200, 1_800],
    [3, 43_200, 1_200],
    [4, 41_039, 1_799],
    [5, 42_983, 1_403],
  ];
  for (const [at, sent, firstTenMinutes] of published) {
    expect(outcomes[at]).toMatchObject({ sent, firstTenMinutes });
  }
  for (const { name, refused } of outcomes.slice(2)) {
    expect(refused, name).toEqual({ fixed: 0, sliding: 0, bucket: 0 });
  }
});
