// Each measured figure of README.md and docs/ stands in a section that names the command by which it was measured.

import { describe, expect, test } from 'vitest';
import { casesNamed } from '../../bench/cases/index.js';
import { commandsOf, figuresOf, sectionsOf } from './figures.js';
import { PAGES, textOf } from './pages.js';

/** Phrases with figures that nobody measures, by the reason. Lines are joined, and code is `…`. */
const NOT_MEASURED: Readonly<Record<string, readonly string[]>> = {};
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
