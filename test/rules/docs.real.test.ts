// The code of docs/rules.md runs, each block in a process of its own, and prints what the comments say.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { TESTS_NATIVE } from '../support/limiters.js';
import { ROOT, run } from '../support/processes.js';

const PAGE = readFileSync(join(ROOT, 'docs/rules.md'), 'utf8');

const blocks = (language: string) =>
  [...PAGE.matchAll(new RegExp(`\`\`\`${language}\\n([\\s\\S]*?)\`\`\``, 'g'))].map(([, code]) =>
    String(code),
  );

test.each(blocks('js').map((code, n) => [n + 1, code]))(
  'block %i of docs/rules.md runs',
  (_, code) => {
    const expected = [...String(code).matchAll(/^console\.log\(.*\); \/\/ (.*)$/gm)].map(
      ([, text]) => text,
    );
    const env = { RELAY_LIMITER_ENGINE: TESTS_NATIVE ? '' : 'js' };
    const { status, stdout, stderr } = run(String(code), { env });
    expect({ status, stderr, stdout }).toEqual({
      status: 0,
      stderr: '',
      stdout: expected.join('\n'),
    });
  },
);

test('docs/rules.md shows parts of the limits of the Nostr relay', () => {
  const file = readFileSync(join(ROOT, 'examples/nostr-relay/limits.json'), 'utf8');
  const [shown = ''] = blocks('json');
  expect(JSON.parse(file)).toMatchObject(JSON.parse(shown));
});
