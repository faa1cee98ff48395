// The declarations that a user's compiler reads: those of the entries, and whatever these import. It reads each of
// them whole unless skipLibCheck is set, so none may need a newer TypeScript than the package does, or show what the
// package keeps to itself. scripts/test-types.mjs compiles them with the oldest TypeScript that there is support for.

import { readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { describe, expect, test } from 'vitest';
import manifest from '../package.json' with { type: 'json' };
import { type Declaration, Declarations } from './support/declarations.js';
import { ROOT } from './support/processes.js';

const declarations = new Declarations();

/** The files of the entries, by the names that users import. */
const ENTRIES = Object.entries(manifest.exports).flatMap(([path, entry]) =>
  typeof entry === 'string' ? [] : [[path.replace('.', 'relay-limiter'), join(ROOT, entry.types)]],
) as [name: string, file: string][];

const DECLARATIONS = declarations.reachedFrom(ENTRIES.map(([, file]) => file)).map((file) => ({
  file: shorten(file),
  text: readFileSync(file, 'utf8'),
}));

/** The exports of all entries, each with its declaration. */
const EXPORTS = ENTRIES.flatMap(([entry, file]) =>
  [...declarations.exportsOf(file)].map(([name, declaration]) => ({
    name: `${entry} ${name}`,
    declaration,
  })),
);

function shorten(file: string): string {
  return relative(join(ROOT, 'dist'), file).replaceAll('\\', '/');
}

const idOf = ({ file, name }: Declaration) => `${name} of ${shorten(file)}`;

describe('Public declarations', () => {
  test('reach more files than the entries', () => {
    expect(DECLARATIONS.length).toBeGreaterThan(ENTRIES.length);
  });

  test('refer only to types that an entry exports', () => {
    const isExported = new Set(EXPORTS.map(({ declaration }) => idOf(declaration)));
    const named = [
      ...EXPORTS.map(({ name, declaration }) => [name, declarations.namedBy(declaration)] as const),
      ...ENTRIES.map(([name, file]) => [name, augmentationsOf(file)] as const),
    ];
    const references = named.flatMap(([name, all]) => all.map((other) => [name, idOf(other)]));
    expect(references.length).toBeGreaterThan(100);
    const internal = references.filter(([, id]) => !isExported.has(String(id)));
    expect(internal.map(([name, id]) => `${name} refers to ${id}`)).toEqual([]);
  });

  test('reach only files with something that an entry exports', () => {
    const files = new Set([
      ...ENTRIES.map(([, file]) => shorten(file)),
      ...EXPORTS.map(({ declaration }) => shorten(declaration.file)),
    ]);
    expect(DECLARATIONS.map(({ file }) => file).filter((file) => !files.has(file))).toEqual([]);
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

/** What the files of an entry add to modules of other packages, such as options of Fastify's routes. */
function augmentationsOf(entry: string): Declaration[] {
  return declarations
    .reachedFrom([entry])
    .flatMap((file) => declarations.namedByAugmentations(file));
}
