// `npm run demo:cluster`: its flags and exit codes, and the demonstration itself, which goes on until the worker that
// replaces the killed one has decided about a message, however slow the machine is.

import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { sharedNames } from '../../dist/engine/shared-paths.js';
import { TESTS_NATIVE } from '../support/limiters.js';
import { start } from '../support/processes.js';

const MAIN = fileURLToPath(new URL('../../out/examples/cluster/main.js', import.meta.url));

describe('npm run demo:cluster', () => {
  test('lists its flags with --help', async () => {
    const { code, output } = await start(MAIN, ['--help']).ended;
    expect(code).toBe(0);
    expect(output).toContain('--seconds N');
  });

  test('exits with 2 for an invalid flag, and refers to --help', async () => {
    const { code, output } = await start(MAIN, ['--seconds', '1']).ended;
    expect(code).toBe(2);
    expect(output).toMatch(/^demo:cluster: .+ \(npm run demo:cluster -- --help\)\n$/);
  });

  test.runIf(TESTS_NATIVE)(
    'shows that a shared limit holds, and one of each worker does not',
    async () => {
      const { code, output } = await start(MAIN, ['--seconds', '2', '--flood', '2000']).ended;
      expect(output).toContain('The limit held');
      expect(output).toContain('worker 2 was killed with SIGKILL and replaced');
      const [, shared, apart] = /of what the limit allows +(\d+)% +(\d+)%/.exec(output) ?? [];
      expect(Number(shared)).toBeGreaterThan(0);
      expect(Number(shared)).toBeLessThanOrEqual(100);
      expect(Number(apart)).toBeGreaterThan(100);
      // Each table ends with a bar; only that of the second one goes beyond the bound.
      const bars = output.match(/^[█░]*│[█░]* .*%$/gm) ?? [];
      expect(bars.map((bar) => /│█+ /.test(bar))).toEqual([false, true]);
      expect(code).toBe(0);
      for (const line of output.split('\n')) expect(line.length).toBeLessThanOrEqual(100);
      expect(sharedNames().filter((name) => name.startsWith('demo-cluster'))).toEqual([]);
    },
  );

  test.runIf(TESTS_NATIVE)(
    'removes its table and exits with 130 if it is interrupted',
    async () => {
      const demo = start(MAIN, ['--flood', '100']);
      const pid = await demo.line(/demo-cluster-(\d+)/);
      await demo.line(/worker +process/);
      expect(sharedNames()).toContain(`demo-cluster-${pid}`);
      demo.interrupt();
      expect((await demo.ended).code).toBe(130);
      expect(sharedNames()).not.toContain(`demo-cluster-${pid}`);
    },
  );
});
