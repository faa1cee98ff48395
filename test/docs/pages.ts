// The Markdown pages of the repository: their text, headings, links and code.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from '../support/processes.js';

const TOP = readdirSync(ROOT).filter((name) => name.endsWith('.md'));
const FOLDERS = ['docs', 'bench'];

/** The paths of all pages, relative to the repository. */
export const PAGES: readonly string[] = [
  ...TOP,
  ...FOLDERS.flatMap((folder) =>
    readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.md') && !/node_modules|^api\b/.test(name))
      .map((name) => `${folder}/${name.replaceAll('\\', '/')}`),
  ),
].sort();

export const textOf = (page: string) => readFileSync(join(ROOT, page), 'utf8');

/** The text without blocks of code, whose lines become empty. */
export function proseOf(text: string): string {
  return text.replace(/^( *)```[\s\S]*?^\1```$/gm, (block) => block.replace(/.*/g, ''));
}

/** The anchors of a page's headings, as GitHub makes them. */
export function anchorsOf(text: string): string[] {
  const seen = new Map<string, number>();
  return [...proseOf(text).matchAll(/^#{1,6} +(.*?) *#*$/gm)].map(([, heading = '']) => {
    const words = heading.replace(/\[([^\]]*)\]\([^)]*\)/g, '$1').toLowerCase();
    const anchor = words.replace(/[^\p{L}\p{M}\p{N}\p{Pc} -]/gu, '').replaceAll(' ', '-');
    const times = seen.get(anchor) ?? 0;
    seen.set(anchor, times + 1);
    return times === 0 ? anchor : `${anchor}-${times}`;
  });
}

export interface Link {
  readonly line: number;
  readonly target: string;
}

/** The targets of links and pictures, without code. */
export function linksOf(text: string): Link[] {
  const prose = proseOf(text).replace(/`[^`\n]*`/g, (code) => code.replace(/[^\n]/g, '·'));
  const found = prose.matchAll(
    /\]\(([^()\s]+(?:\([^()]*\)[^()\s]*)*)\)|(?:src|srcset|href)="([^"]+)"/g,
  );
  return [...found].map(({ index, 1: markdown, 2: html }) => {
    return { line: prose.slice(0, index).split('\n').length, target: (markdown ?? html) as string };
  });
}

export interface Block {
  readonly line: number;
  readonly language: string;
  readonly code: string;
}

export function blocksOf(text: string): Block[] {
  return [...text.matchAll(/^```(\w*)\n([\s\S]*?)^```$/gm)].map(
    ({ index, 1: language, 2: code }) => {
      return {
        line: text.slice(0, index).split('\n').length,
        language: language as string,
        code: code as string,
      };
    },
  );
}
