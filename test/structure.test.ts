// The order of imports: a folder imports only folders that stand before it in its list, and no files
// import each other in a circle.

import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';

const ROOT = fileURLToPath(new URL('..', import.meta.url));

/** From the bottom to the top. A folder stands for those in it, too. */
const LIB = [
  'common',
  'tables',
  'engine',
  'address',
  'limiters',
  'rules',
  'headers',
  'client',
  'guard',
  'ws',
  'websocket',
  'net',
  'http',
  'fetch',
  'fastify',
  'persist',
  'metrics',
  'dashboard',
  'redis',
  'cli',
  '.',
];
const NATIVE = ['memory', 'table', 'limiters', 'shared', 'binding'];

/** The relative paths that each file below `folder` imports, by its path. */
function importsBelow(folder: string, name: RegExp, pattern: RegExp): Map<string, string[]> {
  const root = join(ROOT, folder);
  const files = readdirSync(root, { recursive: true, encoding: 'utf8' }).filter((file) =>
    name.test(file),
  );
  return new Map(
    files.map((file) => {
      const text = readFileSync(join(root, file), 'utf8');
      const imported = [...text.matchAll(pattern)]
        .map((match) => (match[1] ?? match[2]) as string)
        .map((path) => normalize(join(dirname(file), path)).replace(/\.js$/, '.ts'));
      return [file.replaceAll('\\', '/'), imported.map((path) => path.replaceAll('\\', '/'))];
    }),
  );
}

const folderOf = (file: string) => (file.includes('/') ? (file.split('/')[0] as string) : '.');

function wrongImports(imports: Map<string, string[]>, order: readonly string[]): string[] {
  return [...imports].flatMap(([file, imported]) =>
    imported
      .filter((path) => !(order.indexOf(folderOf(path)) <= order.indexOf(folderOf(file))))
      .map((path) => `${file} imports ${path}`),
  );
}

/** The files of a circle, the first one also at the end; undefined if there is none. */
function circleIn(imports: Map<string, string[]>): string[] | undefined {
  const done = new Set<string>();
  const visit = (file: string, path: readonly string[]): string[] | undefined => {
    if (path.includes(file)) return [...path.slice(path.indexOf(file)), file];
    if (done.has(file)) return undefined;
    for (const next of imports.get(file) ?? []) {
      const circle = visit(next, [...path, file]);
      if (circle !== undefined) return circle;
    }
    done.add(file);
    return undefined;
  };
  for (const file of imports.keys()) {
    const circle = visit(file, []);
    if (circle !== undefined) return circle;
  }
  return undefined;
}

describe.each([
  ['lib', LIB, /\.ts$/, /from '(\.[^']+)'|import\('(\.[^']+)'\)/g],
  ['native', NATIVE, /\.(h|cc)$/, /#include "([^"]+)"/g],
] as const)('%s/', (folder, order, name, pattern) => {
  const imports = importsBelow(folder, name, pattern);

  test('lists every folder in the order of imports', () => {
    const folders = new Set([...imports.keys()].map(folderOf));
    expect([...folders].filter((found) => !order.includes(found as never))).toEqual([]);
    expect(order.filter((listed) => !folders.has(listed))).toEqual([]);
  });

  test('imports only from folders further down', () => {
    expect(wrongImports(imports, order)).toEqual([]);
  });

  test('has no circle of imports', () => {
    expect(circleIn(imports)).toBeUndefined();
  });

  test('finds the imports of its files', () => {
    const all = [...imports.values()].flat();
    expect(all.length).toBeGreaterThan(imports.size);
    for (const path of all) expect(relative('.', path)).not.toMatch(/^\.\./);
  });
});
