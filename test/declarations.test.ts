// The declarations that a user's compiler reads: those of the entries, and whatever these import. It reads each of
// them whole unless skipLibCheck is set, so none may need a newer TypeScript than the package does, or show what the
// package keeps to itself. scripts/test-types.mjs compiles them with the oldest TypeScript that there is support for.

import { readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { describe, expect, test } from 'vitest';
import manifest from '../package.json' with { type: 'json' };
import { ROOT } from './support/processes.js';

const ENTRIES = Object.values(manifest.exports)
  .filter((entry) => typeof entry !== 'string')
  .map(({ types }) => join(ROOT, types));

/** The files that the entries reach, and the text of each. */
function reachedDeclarations(): Map<string, string> {
  const texts = new Map<string, string>();
  const visit = (file: string): void => {
    if (texts.has(file)) return;
    const text = readFileSync(file, 'utf8');
    texts.set(file, text);
    for (const [, name] of text.matchAll(/(?:from|import\()\s*'(\.[^']+)\.js'/g)) {
      visit(`${join(dirname(file), String(name))}.d.ts`);
    }
  };
  for (const entry of ENTRIES) visit(entry);
  return texts;
}

const DECLARATIONS = [...reachedDeclarations()].map(([file, text]) => ({
  file: relative(join(ROOT, 'dist'), file).replaceAll('\\', '/'),
  text,
}));

describe('Public declarations', () => {
  test('reach more files than the entries', () => {
    expect(DECLARATIONS.length).toBeGreaterThan(ENTRIES.length);
  });

  test('need no TypeScript later than 5.0', () => {
    // TypeScript 5.7 made typed arrays generic, and 5.4 brought NoInfer.
    const newer = /\b(?:(?:Big)?(?:Int|Uint|Float)\d+(?:Clamped)?Array|DataView|Buffer|NoInfer)</;
    expect(DECLARATIONS.filter(({ text }) => newer.test(text)).map(({ file }) => file)).toEqual([]);
  });

  test('name no type of the engines', () => {
    const engines = DECLARATIONS.map(({ file }) => file).filter((file) => /^engine\//.test(file));
    expect(engines).toEqual(['engine/select.d.ts']);
    const { text } = DECLARATIONS.find(({ file }) => file === 'engine/select.d.ts') ?? {};
    expect(text?.match(/^export .* (\w+)\b(?= \{|\()/gm)).toEqual([
      'export interface EngineInfo',
      'export declare function engineInfo',
    ]);
  });
});
