// The programs of `npm run simulate -- peers` that are short: relay-limiter with its defaults is refused nothing, loses
// nothing, and is at most 3 % slower than the fastest package that loses nothing.

import { expect, it } from 'vitest';
import { CONTENDERS, type Contender, contendersFor } from '../../examples/peers/contenders.js';
import { PROGRAMS, type Program } from '../../examples/peers/programs.js';
import { simulate } from '../../examples/peers/simulate.js';

const [own] = CONTENDERS as [Contender];
const named = (name: string) =>
  PROGRAMS.find((program) => program.name.startsWith(name)) as Program;

it.each(['OpenAI', 'Shopify', 'Binance'])(
  'limitFetch is not refused and hardly slower than any other package: %s',
  async (name) => {
    const program = named(name);
    const outcome = await simulate(program, own);
    expect(outcome).toMatchObject({ refused: 0, lost: 0 });
    expect(outcome.seconds).toBeGreaterThanOrEqual(program.optimumSeconds);
    for (const other of contendersFor(program).slice(1)) {
      const { seconds, lost } = await simulate(program, other);
      if (lost === 0) expect(outcome.seconds, other.name).toBeLessThanOrEqual(1.03 * seconds);
    }
  },
);

it('limitFetch fills windows of tokens with requests of different costs', async () => {
  const { seconds } = await simulate(named('OpenAI'), own);
  expect(seconds).toBeLessThan(1180);
});

it('limitFetch learns the hour of GitHub, and neither it nor the points per minute refuse a request', async () => {
  const program = named('GitHub');
  const { seconds, refused, lost } = await simulate(program, own);
  expect({ refused, lost }).toEqual({ refused: 0, lost: 0 });
  expect(seconds).toBeLessThan(1.01 * program.optimumSeconds);
});

it('the throttling of octokit runs the program of GitHub, later and with refusals', async () => {
  const program = named('GitHub');
  const octokit = contendersFor(program).at(-1) as Contender;
  const { contender, seconds, refused } = await simulate(program, octokit);
  expect(contender).toBe('octokit throttling');
  expect(refused).toBeGreaterThan(0);
  expect(seconds).toBeGreaterThan(program.optimumSeconds);
});

it('limitFetch is not held up by a node of a pool that never answers', async () => {
  const program = named('the same, one never answers');
  const { seconds, lost } = await simulate(program, own, 6);
  expect(lost).toBe(0);
  expect(seconds).toBeLessThan(1.02 * program.optimumSeconds);
});

it.each([1, 2, 3, 4, 5, 6, 7, 8])(
  'limitFetch learns the limits of 40 routes of Discord without a refusal, and routes hardly wait for one another (seed %d)',
  async (seed) => {
    const outcome = await simulate(named('Discord'), own, seed);
    expect(outcome).toMatchObject({ refused: 0, lost: 0 });
    expect(outcome.seconds).toBeLessThan(63.5);
  },
);
