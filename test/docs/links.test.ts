// Every link of the documents leads to a file and a heading that exist, in the repository and in the package.

import { existsSync, readdirSync } from 'node:fs';
import { basename, dirname, join, normalize } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ROOT } from '../support/processes.js';
import { anchorsOf, blocksOf, linksOf, PAGES, textOf } from './pages.js';

const WEB = /^(https?|mailto):/;

/** What is wrong with the links of a page: `line: target`. */
function brokenLinks(page: string): string[] {
  return linksOf(textOf(page))
    .filter(({ target }) => !WEB.test(target) && !leads(page, target))
    .map(({ line, target }) => `${line}: ${target}`);
}

function leads(page: string, target: string): boolean {
  const [path = '', anchor] = target.split('#');
  const to = path === '' ? page : normalize(join(dirname(page), path)).replaceAll('\\', '/');
  if (to.startsWith('..') || !existsSync(join(ROOT, to))) return false;
  return anchor === undefined || (to.endsWith('.md') && anchorsOf(textOf(to)).includes(anchor));
}

test.each(PAGES)('the links of %s lead somewhere', (page) => {
  expect(brokenLinks(page)).toEqual([]);
});

test('links of the repository to itself name files that exist', () => {
  const self = /^https:\/\/github\.com\/relay-limiter\/relay-limiter\/blob\/main\/([^#]+)/;
  const named = PAGES.flatMap((page) => linksOf(textOf(page)))
    .map(({ target }) => self.exec(target)?.[1])
    .filter((path) => path !== undefined);
  expect(named.filter((path) => !existsSync(join(ROOT, path)))).toEqual([]);
});

/** Files and folders of the repository that a page names in its text. Not those with placeholders, nor that commands create. */
function namedPaths(page: string): string[] {
  const folders = 'lib|native|test|soak|scripts|bench|examples|playground';
  const path = new RegExp(`(?<![\\w/.@-])(?:${folders})/(?!node_modules)[\\w./<>*-]*\\w`, 'g');
  // The package has this file there.
  const isElsewhere = (name: string) => /[<>*]/.test(name) || name === 'native/binding.gyp';
  return (textOf(page).match(path) ?? []).filter((name) => !isElsewhere(name));
}

/** A filter of tests may be the beginning of a path. */
function exists(path: string): boolean {
  const folder = join(ROOT, dirname(path));
  return existsSync(folder) && readdirSync(folder).some((name) => name.startsWith(basename(path)));
}

test.each(PAGES)('the paths of the repository in %s exist', (page) => {
  expect(namedPaths(page).filter((path) => !exists(path))).toEqual([]);
});

test('all pages are found', () => {
  expect(PAGES).toEqual(expect.arrayContaining(['README.md', 'SECURITY.md', 'docs/rules.md']));
  expect(PAGES.flatMap((page) => linksOf(textOf(page))).length).toBeGreaterThan(100);
});

describe('of a page', () => {
  const page = [
    '# A `code` heading, twice!',
    '## Same',
    '## Same',
    '[one](a.md#b) ![two](c_(d).png) `[no](x)`',
    '```js',
    '# [no](y)',
    '```',
    '<img src="e.png">',
  ].join('\n');

  test('headings become anchors as on GitHub', () => {
    expect(anchorsOf(page)).toEqual(['a-code-heading-twice', 'same', 'same-1']);
  });

  test('links are found, those in code are not', () => {
    expect(linksOf(page)).toEqual([
      { line: 4, target: 'a.md#b' },
      { line: 4, target: 'c_(d).png' },
      { line: 8, target: 'e.png' },
    ]);
  });

  test('blocks are found', () => {
    expect(blocksOf(page)).toEqual([{ line: 5, language: 'js', code: '# [no](y)\n' }]);
  });
});
