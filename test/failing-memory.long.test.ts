// The native engine without memory. Each allocation of a call fails in turn: the call throws ERR_LIMITER_MEMORY, and
// afterwards the limiter works as before.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { TESTS_NATIVE } from './support/limiters.js';
import { ROOT, runJson } from './support/processes.js';

interface Attempted {
  /** The number of allocations that failed. */
  failed: number;
  said: string[];
  right: boolean;
}

/** Calls that may need no memory: they only free it, or return numbers. */
const MAY_NEED_NONE = /^(cleanup|clear|group, emptied|getOverview)$/;

/** Only bans are handed over in memory of the addon's. */
const NO_BANS = 'RateLimiter: statistics';

const CALLS = JSON.stringify(new URL('support/failing-memory.mjs', import.meta.url).href);

/** Limiters that are full, and what newcomers do to them. */
const BOUND = `
  import { accessSync } from 'node:fs';
  import { DirectConnectionRateLimiter, RateLimiter } from 'relay-limiter';

  function tell(word) {
    try {
      accessSync('/failing-memory/' + word);
      return true;
    } catch {
      return false;
    }
  }

  const short = Array.from({ length: 3000 }, (_, n) => 'peer-' + n);
  const clock = () => 1000;
  /** Full: of peers that have used a token; of violators; of connections without buckets. */
  const full = () => {
    const limiter = new RateLimiter({ clock, maxPeers: 700 });
    for (const key of short.slice(0, 700)) limiter.check(key);
    return limiter;
  };
  const violators = () => {
    const limiter = new RateLimiter({ clock, burstLimit: 1, maxPeers: 700 });
    for (const key of short.slice(0, 700)) for (let i = 0; i < 3; i += 1) limiter.check(key);
    return limiter;
  };
  const connections = () => {
    const limiter = new DirectConnectionRateLimiter({ clock, maxPeers: 700 });
    for (const key of short.slice(0, 700)) for (let i = 0; i < 3; i += 1) limiter.checkOrderbook(key);
    return limiter;
  };
  const tokens = (limiter, key) => (limiter.checkMessage ?? limiter.check).call(limiter, key);
  /** All newcomers, whatever one of them meets. */
  const flood = (limiter) => {
    let failure;
    for (const key of short.slice(700)) {
      try {
        tokens(limiter, key);
      } catch (error) {
        failure = error;
      }
    }
    if (failure !== undefined) throw failure;
  };
  const everKnown = (limiter) => {
    const { peers, evictions } = limiter.getStats?.() ?? limiter.getStatistics();
    return [peers, evictions];
  };
`;

// Only Linux can preload a library. A sanitizer is preloaded itself, and allocates memory of its own.
const preloads =
  TESTS_NATIVE && process.platform === 'linux' && process.env['LD_PRELOAD'] === undefined;

describe.skipIf(!preloads)('The native engine without memory', () => {
  let folder: string;
  let library: string;

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'relay-limiter-memory-'));
    library = join(folder, 'failing-memory.so');
    const source = join(ROOT, 'test/native/failing-memory.c');
    execFileSync('cc', ['-shared', '-fPIC', '-Wall', '-Wextra', '-Werror', source, '-o', library]);
  });
  afterAll(() => {
    rmSync(folder, { recursive: true });
  });

  test.each([
    'RateLimiter',
    'OrderbookRateLimiter',
    'DirectConnectionRateLimiter',
    'RuleLimiter',
    'LeaseTable',
  ])('survives each failed allocation in every call of %s', (subject) => {
    const env = { RELAY_LIMITER_ENGINE: 'native', LD_PRELOAD: library };
    const script = `
      import { tryAll } from ${CALLS};
      console.log(JSON.stringify(tryAll('${subject}')));`;
    const outcomes = runJson(script, { env }) as Record<string, Attempted>;
    for (const [call, { failed, said, right }] of Object.entries(outcomes)) {
      expect.soft({ call, right, said }).toEqual({
        call,
        right: true,
        said: failed === 0 ? [] : ['ERR_LIMITER_MEMORY'],
      });
      // How many allocations there are depends on the compiler and its library; whether there are any does not.
      const needsMemory = !MAY_NEED_NONE.test(call) && `${subject}: ${call}` !== NO_BANS;
      if (needsMemory) expect.soft(failed, call).toBeGreaterThan(0);
    }
  });

  const run = (script: string) =>
    runJson(`${BOUND} { ${script} }`, {
      env: { RELAY_LIMITER_ENGINE: 'native', LD_PRELOAD: library },
    });

  test.each(['full', 'violators'])(
    'evicts peers for newcomers without memory (limiter: %s)',
    (make) => {
      const script = `
      const limiter = ${make}();
      tell(0);
      flood(limiter);
      const hit = tell('hit');
      tell(-1);
      console.log(JSON.stringify([hit, ...everKnown(limiter), limiter.getStats().totalViolations > 0]));`;
      expect(run(script)).toEqual([false, 700, 2300, make === 'violators']);
    },
  );

  test('evicts no peer of another table for a newcomer that needs memory', () => {
    // The newcomers need a page for their buckets. No peer is evicted for a newcomer without memory.
    const script = `
      const limiter = connections();
      const said = new Set();
      tell(0);
      for (const key of short.slice(700)) {
        try {
          limiter.checkMessage(key);
        } catch (error) {
          said.add(error.code);
        }
      }
      const hit = tell('hit');
      tell(-1);
      const { peers, evictions, totalViolations } = limiter.getStatistics();
      flood(limiter);
      const after = limiter.getStatistics();
      for (const key of short) limiter.removePeer(key);
      console.log(JSON.stringify([
        hit, [...said], peers, evictions, totalViolations, after.peers, limiter.getStatistics().peers,
      ]));`;
    expect(run(script)).toEqual([true, ['ERR_LIMITER_MEMORY'], 700, 0, 1400, 700, 0]);
  });

  test('changes a known lease, also one under the digest of a long name', () => {
    const script = `
      const { selectEngine } = await import(${JSON.stringify(new URL('../dist/engine/select.js', import.meta.url).href)});
      const table = selectEngine('native').leaseTable();
      const digest = '#'.padEnd(129, 'f');
      table.set(digest, 2, 10);
      tell(0);
      table.set(digest, 3, 10);
      const refused = table.spend(digest, 1, 9);
      const left = table.tokens(digest);
      table.delete(digest);
      const hit = tell('hit');
      tell(-1);
      console.log(JSON.stringify([hit, refused ?? 'taken', left, table.tokens(digest)]));`;
    expect(run(script)).toEqual([false, 'taken', 2, 0]);
  });
});
