// The parts of `npm run demo:client` on a virtual clock: flags, nodes, the client with relay-limiter, and the verdict.

import { parseRateLimitHeaders } from 'relay-limiter/headers';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { scaleOf } from '../../examples/client/calibrate.js';
import { limitedClient, naiveClient } from '../../examples/client/clients.js';
import { readFlags } from '../../examples/client/flags.js';
import { LimitedNode, PUNISHMENT } from '../../examples/client/limited-node.js';
import { type NodeSpec, nodesAt, TOTAL_RATE } from '../../examples/client/nodes.js';
import { type PhaseResult, runPhase } from '../../examples/client/phase.js';
import { failures, summary } from '../../examples/client/summary.js';
import { WrongFlag } from '../../examples/command-line.js';
import { seeded } from '../support/random.js';

const NODES = nodesAt(1);

describe('the client demonstration', () => {
  it('scales its limits to a third of what the machine can send, and never above their numbers', () => {
    expect(TOTAL_RATE).toBe(402.5);
    expect(scaleOf(100_000)).toBe(1);
    expect(scaleOf(402.5)).toBeCloseTo(1 / 3);
    expect(nodesAt(1 / 3).map(({ policies }) => policies.map(({ quota }) => quota))).toEqual([
      [167, 300],
      [233],
      [200],
    ]);
    expect(nodesAt(1 / 3).map(({ configured }) => configured)).toMatchObject([
      [{ v: 333 }],
      [{ v: 467 }],
      [{ v: 200 }],
    ]);
    expect(nodesAt(1e-9)[0]?.policies[0]?.quota).toBe(1);
  });

  it.each(['--requests 0', '--requests many', '--requests 10001', '--frobnicate', 'surplus'])(
    'rejects the flags %s',
    (args) => {
      expect(() => readFlags(args.split(' '))).toThrow(WrongFlag);
    },
  );
});

describe('limitedClient', () => {
  beforeEach(() => {
    vi.useFakeTimers();
  });
  afterEach(() => {
    vi.useRealTimers();
    vi.unstubAllGlobals();
    vi.restoreAllMocks();
  });

  const now = () => performance.now() / 1000;
  const pass = (seconds: number) =>
    new Promise((resolve) => {
      setTimeout(resolve, seconds * 1000);
    });

  /** Creates servers that need no network. A request takes up to 0.2 s to arrive. */
  function virtualServers() {
    const nodes = new Map<string, LimitedNode>();
    vi.stubGlobal('fetch', async (url: string) => {
      await pass(Math.random() * 0.2);
      const node = nodes.get(new URL(url).origin) as LimitedNode;
      const { status, headers, latencySeconds } = node.answer(now());
      await pass(latencySeconds);
      return new Response('here you are', { status, headers });
    });
    return async (spec: NodeSpec) => {
      const origin = `http://${spec.name}.example`;
      nodes.set(origin, new LimitedNode(spec, now()));
      return { spec, origin, close: () => {} };
    };
  }

  /** Runs a phase on the virtual clock. */
  async function runVirtually(client: typeof limitedClient, nodes: typeof NODES, requests: number) {
    const { signal } = new AbortController();
    let isOver = false;
    const phase = runPhase(client, nodes, requests, signal, () => () => {}, virtualServers());
    phase
      .catch(() => {})
      .then(() => {
        isOver = true;
      });
    while (!isOver) await vi.advanceTimersByTimeAsync(100);
    return phase;
  }

  it.each([
    [1, 0.25],
    [3, 0.1],
  ])('is faster than the naive client (seed %d, scale %d)', async (seed, scale) => {
    const requests = 3000 * scale;
    vi.spyOn(Math, 'random').mockImplementation(seeded(seed));
    const limited = await runVirtually(limitedClient, nodesAt(scale), requests);
    vi.spyOn(Math, 'random').mockImplementation(seeded(seed));
    const naive = await runVirtually(naiveClient, nodesAt(scale), requests);
    expect([limited.done, naive.done]).toEqual([requests, requests]);
    expect(naive.seconds).toBeGreaterThan(limited.seconds * 1.2);
    expect(summary({ limited, naive })).toMatch(/^The polite client finished \d\.\d times as fast/);
  });

  // The seed determines the phase of the nodes' windows at the first request.
  it.each([1, 2])(
    'is refused at most once, and never by a node with headers (seed %i)',
    async (seed) => {
      vi.spyOn(Math, 'random').mockImplementation(seeded(seed));
      const result = await runVirtually(limitedClient, nodesAt(0.25), 450);
      expect(result.done).toBe(450);
      // Longer than the shortest window, so requests were delayed.
      expect(result.seconds).toBeGreaterThan(4);
      const [ann, bob, cid] = result.nodes;
      expect([ann?.refused, bob?.refused]).toEqual([0, 0]);
      expect(cid?.refused).toBeLessThanOrEqual(1);
      expect(vi.getTimerCount()).toBe(0);
    },
  );
});

describe('LimitedNode', () => {
  const THREE = [{ name: 'a', quota: 3, windowSeconds: 1000 }];

  /** Returns the answers of a node at those times. Its window ends at 1000. */
  function answers(draft: NodeSpec['draft'], times: readonly number[]) {
    vi.spyOn(Math, 'random').mockReturnValue(0);
    const node = new LimitedNode({ ...(NODES[0] as NodeSpec), draft, policies: THREE }, 0);
    vi.restoreAllMocks();
    return times.map((time) => node.answer(time));
  }

  it('enforces its policy and reports the end of its window', () => {
    const all = answers(undefined, [0, 1, 2, 3, 4.5, 1000]);
    expect(all.map(({ status }) => status)).toEqual([200, 200, 200, 429, 429, 429]);
    expect(all.map(({ headers }) => headers)).toEqual([
      ...[{}, {}, {}],
      ...[{ 'Retry-After': '997' }, { 'Retry-After': '1006' }, { 'Retry-After': '10' }],
    ]);
  });

  it('punishes a client that ignores a refusal, once', () => {
    // Refused until 1000; the second refusal adds the punishment, the third one does not.
    const all = answers(undefined, [0, 1, 2, 3, 4, 5, 1000, 1000 + PUNISHMENT]);
    expect(all.map(({ status }) => status)).toEqual([200, 200, 200, 429, 429, 429, 429, 200]);
    const waits = all.slice(3, 7).map(({ headers }) => Number(headers['Retry-After']));
    expect(waits).toEqual([997, 996 + PUNISHMENT, 995 + PUNISHMENT, PUNISHMENT]);
    // One that waits for the end of the refusal is not punished.
    expect(answers(undefined, [0, 1, 2, 3, 1000]).at(-1)?.status).toBe(200);
  });

  it.each([11, 7] as const)('reports what remains in the format of draft %i', (draft) => {
    const said = answers(draft, [1, 1, 1, 1]).map(({ headers }) => parseRateLimitHeaders(headers));
    expect(said.map(({ limits }) => limits[0]?.remaining)).toEqual([2, 1, 0, 0]);
    const name = draft === 11 ? 'a' : null;
    expect(said[0]?.policies).toMatchObject([{ name, quota: 3, windowSeconds: 1000 }]);
  });
});
describe('the verdict of the demonstration', () => {
  const phase = (...refused: number[]): PhaseResult => ({
    nodes: NODES.map((spec, at) => ({ spec, sent: 10, refused: refused[at] ?? 0 })),
    done: 30,
    seconds: 1,
  });

  it.each<[refused: number[], failed: string[]]>([
    [[0, 0, 0], []],
    [[0, 0, 1], []],
    [[0, 0, 2], ['cid refused 2; the maximum is 1']],
    [[1, 0, 0], ['ann refused 1; the maximum is 0']],
    [[0, 3, 0], ['bob refused 3; the maximum is 0']],
  ])('is correct for %o refusals', (refused, failed) => {
    const outcome = { limited: phase(...refused), naive: phase(50, 60, 70) };
    expect(failures(outcome)).toEqual(failed);
    const kept = failed.length === 0;
    expect(summary(outcome).includes('kept its promise')).toBe(kept);
    expect(summary(outcome).includes('did not keep its promise')).toBe(!kept);
    expect(summary(outcome)).toMatch(/429 in all +\d +180\n/);
  });
});
