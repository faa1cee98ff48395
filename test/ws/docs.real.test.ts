// Programs in docs/servers.md do what the page says.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { TESTS_NATIVE } from '../support/limiters.js';
import { ROOT, run } from '../support/processes.js';

test.each([
  ['## A RuleLimiter in a guard', 'limits notes by account'],
  ['## Slow readers', 'closes a connection that does not read'],
])('the program of docs/servers.md in %s %s', (heading) => {
  const page = readFileSync(join(ROOT, 'docs/servers.md'), 'utf8');
  const [, section = ''] = page.split(heading);
  const [, code = ''] = /```js\n([\s\S]*?)```/.exec(section) ?? [];
  const env = { RELAY_LIMITER_ENGINE: TESTS_NATIVE ? '' : 'js' };
  const { status, stdout, stderr } = run(code, { env });
  const [printed = ''] = /Prints (.*);/.exec(code)?.slice(1) ?? [];
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  expect(stdout.split('\n').sort()).toEqual(printed.split(', ').sort());
});
