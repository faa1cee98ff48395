// What docs/observability.md shows is run as it stands there.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ROOT, run } from './support/processes.js';

const TEXT = readFileSync(join(ROOT, 'docs/observability.md'), 'utf8');
const SNIPPETS = [...TEXT.matchAll(/```js\n([\s\S]*?)```/g)].map(([, code]) => String(code));

/** Runs the snippet that has `word` in it, at a free port, and what a test adds at its end. */
function runSnippet(word: string, more: string): string {
  const snippet = SNIPPETS.find((code) => code.includes(word));
  if (snippet === undefined) throw new Error(`no snippet has ${word}`);
  const { status, stdout, stderr } = run(snippet.replace(/\b946\d\b/, '0') + more);
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  return stdout;
}

test('bans are logged by pino, a line each', () => {
  const lines = runSnippet('pino', "for (let n = 0; n < 60; n += 1) nicks.check('mallory\\n');");
  expect(JSON.parse(lines)).toMatchObject({
    level: 40,
    limiter: 'nicks',
    key: 'mallory\n',
    violations: 50,
    banDuration: 3600,
    msg: 'banned',
  });
});

test('metrics are served', () => {
  const metrics = runSnippet(
    'prom-client',
    `
    await new Promise((resolve) => server.on('listening', resolve));
    messages.check('peer');
    const response = await fetch('http://127.0.0.1:' + server.address().port);
    console.log(await response.text());
    server.close();
    `,
  );
  expect(metrics).toContain('relay_limiter_checks_total{limiter="messages",verdict="allow"} 1');
  expect(metrics).toContain('nodejs_eventloop_lag_p99_seconds');
});

test('the page is served', () => {
  const page = runSnippet('createDashboard', 'dashboard.close();');
  expect(page).toMatch(/^watch it at http:\/\/127\.0\.0\.1:\d+\/$/);
});
