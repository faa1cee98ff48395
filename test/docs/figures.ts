// The measured figures of a page: numbers with a unit of time or memory, percentages and factors, by section; and the
// commands that repeat a measurement.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import manifest from '../../package.json' with { type: 'json' };
import { ROOT } from '../support/processes.js';

const SCRIPTS: Readonly<Record<string, string>> = manifest.scripts;

const NUMBER = String.raw`(?<![\w.,])\d[\d,.]*(?: (?:-|to|and|or) \d[\d,.]*)?`;
const UNIT = 'ns|µs|us|ms|s|bytes|[kK]i?B|[MG]i?B';
const FIGURE = new RegExp(String.raw`${NUMBER}(?: (?:${UNIT}|times)|\s?%)(?!\w)`, 'g');
const OWN_PROGRAM = 'npx relay-limiter';
const COMMAND =
  /\b(?:npm (?:run ([\w:-]+)|(start|test))(?: -- ([^`\n]+))?|node (scripts\/[\w-]+\.mjs)|npx relay-limiter)/g;

export interface Section {
  readonly heading: string;
  readonly text: string;
}

/** The parts of a page from one heading to the next. Code of a block may have lines that look like headings. */
export function sectionsOf(page: string): Section[] {
  const sections: { heading: string; lines: string[] }[] = [{ heading: '', lines: [] }];
  let isCode = false;
  for (const line of page.split('\n')) {
    if (line.trimStart().startsWith('```')) isCode = !isCode;
    const [, heading] = (isCode ? null : /^#{1,6} +(.*)/.exec(line)) ?? [];
    if (heading === undefined) sections.at(-1)?.lines.push(line);
    else sections.push({ heading, lines: [] });
  }
  return sections.map(({ heading, lines }) => ({ heading, text: lines.join('\n') }));
}

/** The figures of a text, each with the words before it, without code and without the given phrases. */
export function figuresOf(text: string, phrases: readonly string[] = []): string[] {
  const prose = text.replace(/^( *)```[\s\S]*?^\1```$/gm, '').replace(/`[^`\n]*`/g, '`…`');
  let words = prose.replace(/\s+/g, ' ');
  for (const phrase of phrases) words = words.replaceAll(phrase, '…');
  return [...words.matchAll(FIGURE)].map(({ 0: figure, index }) => {
    return words.slice(Math.max(0, index - 40), index + figure.length);
  });
}

export interface Command {
  readonly name: string;
  readonly exists: boolean;
  /** The arguments after `--`. */
  readonly arguments: readonly string[];
}

/** The commands that a text names: scripts of package.json, programs in scripts/, and the package's own program. */
export function commandsOf(text: string): Command[] {
  return [...text.matchAll(COMMAND)].map(([name, run, short, given = '', program]) => {
    const script = run ?? short;
    const isScript = script !== undefined && Object.hasOwn(SCRIPTS, script);
    const isProgram = program !== undefined && existsSync(join(ROOT, program));
    const exists = isScript || isProgram || name === OWN_PROGRAM;
    return { name: name.trim(), exists, arguments: given.split('#')[0]?.trim().split(/\s+/) ?? [] };
  });
}
