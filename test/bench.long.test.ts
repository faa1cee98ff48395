// A run of the benchmark: a process for each contestant, whatever becomes of it.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Case } from '../bench/cases/case.js';
import { run } from '../bench/run.js';

describe('a run of the benchmark', () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'relay-limiter-bench-'));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  const worker = fileURLToPath(new URL('support/bench-worker.mjs', import.meta.url));
  const benchCase: Case = {
    name: 'allowed',
    title: 'a case',
    sizes: [1],
    contestants: () => ['works', 'throws', 'throws later', 'exits', 'is killed idle'],
    rounds: 3,
    fresh: false,
    metrics: [{ name: 'ns', unit: 'ns', label: 'a check' }],
    // Where the processes count the rounds.
    surroundings: async () => ({ env: { ROUNDS_FOLDER: folder }, close: async () => {} }),
    prepare: () => Promise.reject(new Error('the worker of this test does it')),
  };

  it.each([false, true])(
    'measures those that can be, and says why others cannot',
    async (fresh) => {
      const said: string[] = [];
      const progress = (doing: string) => said.push(doing);
      const found = await run({
        benchCase: { ...benchCase, fresh },
        peers: 1,
        rounds: 3,
        progress,
        worker,
      });
      const [works, throws, later, exits, killed] = found;
      expect(works).toMatchObject({ rounds: 3, figures: { ns: { low: 1, median: 2, high: 3 } } });
      expect(throws).toMatchObject({ figures: {}, note: 'cannot get ready' });
      expect(later).toMatchObject({ figures: {}, note: 'cannot go on' });
      expect(exits?.note).toBe('its process ended (7)');
      expect(killed?.note).toBe('its process ended (SIGKILL)');
      expect(said).toContain('round 3 of 3, works');
    },
  );
});
