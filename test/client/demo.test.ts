// What `npm run demo:client` runs: its flags and exit codes, its servers, and the demonstration itself.

import { fileURLToPath } from 'node:url';
import { parseRateLimitHeaders } from 'relay-limiter/headers';
import { afterEach, describe, expect, it } from 'vitest';
import type { NodeSpec } from '../../out/examples/client/nodes.js';
import { NODES } from '../../out/examples/client/nodes.js';
import type { PhaseResult } from '../../out/examples/client/phase.js';
import { NodeServer } from '../../out/examples/client/server.js';
import { failures, summary } from '../../out/examples/client/summary.js';
import { start } from '../support/processes.js';
import { REAL_TIME } from '../support/real-time.js';

const MAIN = fileURLToPath(new URL('../../out/examples/client/main.js', import.meta.url));

describe('the command', REAL_TIME, () => {
  it('lists its flags', async () => {
    const { code, output } = await start(MAIN, ['--help']).ended;
    expect(code).toBe(0);
    expect(output).toContain('--requests N');
  });

  it.each(['--requests 0', '--requests many', '--requests 10001', '--frobnicate', 'surplus'])(
    'refuses %s',
    async (args) => {
      const { code, output } = await start(MAIN, args.split(' ')).ended;
      expect(code).toBe(2);
      expect(output).toMatch(/^demo:client: .+ \(npm run demo:client -- --help\)\n$/);
    },
  );

  it('ends when interrupted', async () => {
    const demo = start(MAIN, []);
    await demo.line(/draft 11/);
    demo.interrupt();
    expect((await demo.ended).code).toBe(130);
  });

  // It runs in real time: a machine that stands still for a second in the middle is given another try.
  it('shows that the promise is kept', { timeout: 40_000, retry: 2 }, async () => {
    const { code, output } = await start(MAIN, ['--requests', '1800']).ended;
    expect(output).toContain('relay-limiter kept its promise');
    expect(output).toMatch(/429 from ann \(draft 11\) +0 /);
    expect(output).toMatch(/429 from bob \(draft 07\) +0 /);
    expect(output).toMatch(/429 from cid \(429 only\) +[01] /);
    expect(output).toMatch(/requests answered +1800 +1800\n/);
    expect(code).toBe(0);
    for (const line of output.split('\n')) expect(line.length).toBeLessThanOrEqual(100);
  });
});

describe('a server', () => {
  let server: NodeServer | undefined;
  afterEach(() => server?.close());

  /** One quota of three in a window that ends in more than a second. */
  async function get(draft: NodeSpec['draft'], times: number): Promise<Response[]> {
    const policies = [{ name: 'a', quota: 3, windowSeconds: 1000 }];
    server = await NodeServer.listen({ ...(NODES[0] as NodeSpec), draft, policies });
    const responses: Response[] = [];
    for (let at = 0; at < times; at += 1) responses.push(await fetch(server.origin));
    return responses;
  }

  it('enforces its policy, and says when it is over', async () => {
    const responses = await get(undefined, 5);
    expect(responses.map(({ status }) => status)).toEqual([200, 200, 200, 429, 429]);
    const said = responses.map(({ headers }) => parseRateLimitHeaders(headers));
    expect(said.slice(0, 3).map((info) => info.retryAfterSeconds)).toEqual([null, null, null]);
    expect(said[4]?.retryAfterSeconds).toBeGreaterThan(0);
    expect(said[4]?.retryAfterSeconds).toBeLessThanOrEqual(1000);
    expect(said.flatMap(({ policies, limits }) => [...policies, ...limits])).toEqual([]);
  });

  it.each([11, 7] as const)('says what is left, in the words of draft %i', async (draft) => {
    const responses = await get(draft, 4);
    const said = responses.map(({ headers }) => parseRateLimitHeaders(headers));
    expect(said.map(({ limits }) => limits[0]?.remaining)).toEqual([2, 1, 0, 0]);
    const name = draft === 11 ? 'a' : null;
    expect(said[0]?.policies).toMatchObject([{ name, quota: 3, windowSeconds: 1000 }]);
  });

  it('serves again in its next window', async () => {
    const policies = [{ name: 'a', quota: 1, windowSeconds: 0.2 }];
    server = await NodeServer.listen({ ...(NODES[0] as NodeSpec), policies });
    const { origin } = server;
    const status = async () => (await fetch(origin)).status;
    await expect.poll(status, { interval: 5 }).toBe(429);
    await expect.poll(status, { interval: 5 }).toBe(200);
  });
});

describe('the verdict', () => {
  const phase = (...refused: number[]): PhaseResult => ({
    nodes: NODES.map((spec, at) => ({ spec, sent: 10, refused: refused[at] ?? 0 })),
    done: 30,
    seconds: 1,
  });

  it.each<[refused: number[], failed: string[]]>([
    [[0, 0, 0], []],
    [[0, 0, 1], []],
    [[0, 0, 2], ['cid refused 2, where 1 is the most']],
    [[1, 0, 0], ['ann refused 1, where 0 is the most']],
    [[0, 3, 0], ['bob refused 3, where 0 is the most']],
  ])('on %o refusals', (refused, failed) => {
    const outcome = { limited: phase(...refused), naive: phase(50, 60, 70) };
    expect(failures(outcome)).toEqual(failed);
    const kept = failed.length === 0;
    expect(summary(outcome).includes('kept its promise')).toBe(kept);
    expect(summary(outcome).includes('did not keep its promise')).toBe(!kept);
    expect(summary(outcome)).toMatch(/429 in all +\d +180\n/);
  });
});
