// docs/one-machine.md states the sizes of shared tables that `npx relay-limiter shared` prints.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { removeShared } from 'relay-limiter';
import { describe, expect, onTestFinished, test } from 'vitest';
import { sharedCommand } from '../../dist/cli/shared.js';
import { TESTS_NATIVE } from '../support/limiters.js';
import { ROOT } from '../support/processes.js';
import { newName } from './support/members.js';
import { opened } from './support/opened.js';

const PAGE = readFileSync(join(ROOT, 'docs/one-machine.md'), 'utf8');
const [, SECTION = ''] = PAGE.split('## Size\n');
const ROWS = SECTION.split('\n\n').find((paragraph) => paragraph.startsWith('| `maxPeers`')) ?? '';
const SIZES = ROWS.split('\n')
  .slice(2)
  .map((row) => row.split('|').map((cell) => cell.trim()))
  .map(([, maxPeers = '', ...sizes]) => ({ maxPeers: Number(maxPeers.replace(/\D/g, '')), sizes }))
  // Larger tables take too much of the machine's memory.
  .filter(({ maxPeers }) => maxPeers <= 100_000);
const CLASSES = ['RateLimiter', 'OrderbookRateLimiter', 'DirectConnectionRateLimiter'] as const;

function sizeOf(limiter: (typeof CLASSES)[number], maxPeers: number) {
  const name = newName();
  onTestFinished(() => void removeShared(name));
  opened(limiter, { shared: name, maxPeers });
  const { bytes, maxBytes } = JSON.parse(sharedCommand(['--json', name]) ?? '');
  return { bytes: Number(bytes), keyBytes: (maxBytes - bytes) / maxPeers };
}

describe.runIf(TESTS_NATIVE)('The size of a shared table', () => {
  test('is documented for some numbers of peers', () => {
    expect(SIZES.map(({ maxPeers }) => maxPeers)).toEqual([1000, 10_000, 100_000]);
  });

  test.each(SIZES)('with maxPeers $maxPeers is as documented', ({ maxPeers, sizes }) => {
    const measured = CLASSES.map((limiter) => sizeOf(limiter, maxPeers));
    const texts = measured.map(({ bytes }) => `${(bytes / 2 ** 20).toFixed(1)} MiB`);
    expect(sizes.slice(0, CLASSES.length)).toEqual(texts);
    // Keys of offenders: "320 bytes", more in small tables.
    for (const { keyBytes } of measured) {
      expect(keyBytes).toBeGreaterThan(300);
      expect(keyBytes).toBeLessThan(maxPeers === 1000 ? 400 : 340);
    }
  });
});
