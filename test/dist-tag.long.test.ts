import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ROOT } from './support/processes.js';

const tagOf = (...tags: string[]) =>
  execFileSync(process.execPath, [join(ROOT, 'scripts/dist-tag.mjs'), ...tags], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  }).trim();

test.each([
  ['the first release', ['v0.1.0'], 'latest'],
  ['the highest version', ['v1.10.0', 'v1.9.9', 'v1.10.0', 'v0.99.99'], 'latest'],
  ['a patch of an older major version', ['v1.2.4', 'v2.0.0', 'v1.2.3', 'v1.2.4'], 'latest-1.2'],
  ['a patch of an older minor version', ['v1.2.4', 'v1.10.0'], 'latest-1.2'],
  ['a version below a pre-release only', ['v1.2.4', 'v2.0.0-rc.1', 'v1.2.3'], 'latest'],
  ['a pre-release', ['v2.0.0-rc.1', 'v1.2.3', 'v2.0.0-rc.1'], 'next'],
  ['a pre-release of an older version', ['v1.3.0-rc.1', 'v2.0.0'], 'next-1.3'],
])('the dist-tag of %s does not point to an older version than before', (_, tags, expected) => {
  expect(tagOf(...tags)).toBe(expected);
});

test('the dist-tag of a tag that is no version is an error', () => {
  expect(() => tagOf('v1.2')).toThrow(/a tag must be like v1\.2\.3 or v1\.2\.3-rc\.1, got v1\.2/);
});
