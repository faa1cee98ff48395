// Each measured figure of README.md and docs/ stands in a section that names the command by which it was measured.
// Commands and files of the repository that a page names exist.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { casesNamed } from '../../bench/cases/index.js';
import { ROOT } from '../support/processes.js';
import { commandsOf, figuresOf, sectionsOf } from './figures.js';
import { PAGES, textOf } from './pages.js';

/** Phrases with figures that are not measured, by the reason. Lines are joined, and code is `…`. */
const NOT_MEASURED: Readonly<Record<string, readonly string[]>> = {
  'a number that the code contains': [
    'up to 10% of the reset',
    'or 1% if the reset is exact',
    'one slice per 15 ms',
    '413 for more than 64 KiB',
    'at most 64 KiB and for one second',
    'may take 1 MiB as text',
    'wait for a part for more than 2 ms',
    'share 64 bytes for each of `…`, at least 1 MiB',
    'and 512 bytes for each waiting message',
    'If more than 256 KB wait',
    'so up to 1 MiB waits',
    'if each 64 KB of them pass',
    'with the longest names at most 8 KB',
    'in a cluster up to 64 times',
  ],
  'the meaning of an option': [
    'the interval 6 and 30 times as long',
    'the interval is 6 times as long',
    'it is 30 times as long',
    'varies the length by ±10%',
  ],
  'part of an example': ['a wait of exactly 20 s becomes 21', 'one more every 0.6 s'],
  'a number of another program or of a protocol': [
    'Docker gives a container 64 MB',
    '(default 60 s)',
    '(300 s)',
    '(30 s)',
    '(5 s)',
    '(120 s)',
    'has at most 107 bytes',
    '(100 MiB per connection by default)',
  ],
};
/** Options of the benchmark with a value. */
const VALUED = new Set(['--json', '--report', '--peers']);
/** A path in code; folders of the repository begin it, and it has no pattern. */
const FILE = /`((?:lib|test|native|scripts|soak|examples|bench|playground)\/[\w./-]+)`/g;
const PHRASES = Object.values(NOT_MEASURED).flat();
const GUIDES = PAGES.filter((page) => page === 'README.md' || page.startsWith('docs/'));

function figuresWithoutCommand(page: string, phrases: readonly string[]): string[] {
  return sectionsOf(page).flatMap(({ heading, text }) => {
    const isNamed = commandsOf(text).some(({ exists }) => exists);
    return isNamed ? [] : figuresOf(text, phrases).map((figure) => `${heading}: ${figure}`);
  });
}

test.each(GUIDES)('%s names the command of each measured figure in its section', (page) => {
  expect(figuresWithoutCommand(textOf(page), PHRASES)).toEqual([]);
});

test('each phrase with figures that are not measured is needed', () => {
  const needed = PHRASES.filter((phrase) => {
    const others = PHRASES.filter((other) => other !== phrase);
    return GUIDES.some((page) => figuresWithoutCommand(textOf(page), others).length > 0);
  });
  expect(needed).toEqual(PHRASES);
});

test.each(PAGES)('the commands that %s names exist', (page) => {
  const commands = commandsOf(textOf(page));
  expect(commands.filter(({ exists }) => !exists)).toEqual([]);
  for (const { name, arguments: given } of commands) {
    if (name.startsWith('npm run bench')) expect(() => casesOf(given)).not.toThrow();
  }
});

/** The cases among the arguments of the benchmark. @throws if there is no such case */
function casesOf(given: readonly string[]) {
  const names = given.filter((word, n) => /^[a-z]/.test(word) && !VALUED.has(given[n - 1] ?? ''));
  return names.flatMap(casesNamed);
}

/** The changelog also names files of the package, and of the past. */
const CURRENT = PAGES.filter((page) => page !== 'CHANGELOG.md');

test.each(CURRENT)('the files of the repository that %s names exist', (page) => {
  const named = [...textOf(page).matchAll(FILE)].map(([, path = '']) => path);
  expect(named.filter((path) => !existsSync(join(ROOT, path)))).toEqual([]);
});

describe('of a page', () => {
  const page = [
    'A check takes 7 ns.',
    '# Measured',
    'It is 3.5 to 4 times as fast (`npm run bench -- allowed`), and takes 42 MB.',
    '```sh',
    '# 1 ms',
    '```',
    '## Not measured',
    'Up to',
    '20 % more, in `8 ms`, version 2.5, 10 seconds, of 3 packages.',
  ].join('\n');

  test('figures without a command are found by section', () => {
    expect(figuresWithoutCommand(page, [])).toEqual([
      ': A check takes 7 ns',
      'Not measured: Up to 20 %',
    ]);
    expect(figuresWithoutCommand(page, ['Up to 20 %'])).toHaveLength(1);
  });

  test('commands are found with their arguments', () => {
    expect(commandsOf(page)).toEqual([
      { name: 'npm run bench -- allowed', exists: true, arguments: ['allowed'] },
    ]);
    const others = '`npm run benches` `npm test` `node scripts/nothing.mjs` `npx relay-limiter`';
    expect(commandsOf(others).map(({ exists }) => exists)).toEqual([false, true, false, true]);
    expect(() => casesOf(['--peers', 'nothing', 'allowed'])).not.toThrow();
    expect(() => casesOf(['allowed', 'nothing'])).toThrow();
  });
});
