// Every block of JavaScript in the documents runs as it stands, with the real modules. Only ports and names of shared
// tables are replaced, and a fragment finds what surrounds it in a reader's program (context.mjs). Tests of single pages
// check besides what their programs print. docs/recipes.md shows files of examples/, which have tests of their own.

import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { transform } from 'esbuild';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { removeShared } from '../../lib/index.js';
import { anyStore, NO_STORE } from '../redis/support/store.js';
import { ModuleRunner } from '../support/module-runner.js';
import { ROOT } from '../support/processes.js';
import { type Block, blocksOf, PAGES, textOf } from './pages.js';

const FOLDER = join(ROOT, 'out', 'doc-blocks');
const CONTEXT = pathToFileURL(join(ROOT, 'test/docs/context.mjs')).href;

/** Files that docs/recipes.md shows. Some need packages that only test:frameworks installs. */
const RECIPES = new Set(
  readdirSync(join(ROOT, 'examples/recipes')).map((name) =>
    readFileSync(join(ROOT, 'examples/recipes', name), 'utf8').trim(),
  ),
);

/** Their programs need other packages, and tests compare their pairs. */
const MIGRATION = ['docs/migration.md', 'docs/migration-servers.md'];

const blocks = PAGES.filter((page) => page === 'README.md' || page.startsWith('docs/'))
  .filter((page) => !MIGRATION.includes(page))
  .flatMap((page) => blocksOf(textOf(page)).map((block) => ({ page, ...block })))
  .filter(({ language }) => language === 'js' || language === 'ts')
  .filter(({ code }) => !RECIPES.has(code.trim()));

/** Whether the block needs a store. Fragments of docs/fleet.md find a limiter that uses one. */
const needsStore = ({ page, code }: Block & { page: string }) =>
  page === 'docs/fleet.md' || /relay-limiter\/redis|createClient/.test(code);

/** Whether it is a fragment about the Fastify plugin, in which `app` is an instance of Fastify. */
const isFastify = ({ code }: Block) => /app\.(register|setErrorHandler)\(/.test(code);

/** The names of the tables that a block shares, each with one that no other block and no program of this machine uses. */
function sharedTables({ code, line }: Block): Map<string, string> {
  const names = [...code.matchAll(/\bshared: '([\w-]+)'/g)].map(([, name = '']) => name);
  return new Map(names.map((name) => [name, `docs-${process.pid}-${line}-${name}`]));
}

/** The block as a module. One that is a value, such as a result, becomes an expression. */
async function moduleOf(block: Block): Promise<string> {
  const { language } = block;
  let { code } = block;
  for (const [name, own] of sharedTables(block)) code = code.replaceAll(`'${name}'`, `'${own}'`);
  const text = code.startsWith('{') ? `(${code});` : code;
  const loader = language === 'ts' ? 'ts' : 'js';
  return (await transform(text, { loader, format: 'esm', target: 'node20' })).code;
}

describe('the code in', () => {
  let store: Awaited<ReturnType<typeof anyStore>> | undefined;
  let runner: ModuleRunner;

  beforeAll(async () => {
    rmSync(FOLDER, { recursive: true, force: true });
    mkdirSync(FOLDER, { recursive: true });
    if (NO_STORE === false) store = await anyStore();
    runner = ModuleRunner.start(store && { REDIS_URL: store.url }, CONTEXT);
  });
  afterAll(() => {
    runner.end();
    for (const block of blocks) for (const own of sharedTables(block).values()) removeShared(own);
    store?.close();
  });

  const runnable = blocks.filter((block) => NO_STORE === false || !needsStore(block));

  test.each(runnable.map((block) => [block.page, block.line, block] as const))(
    '%s, line %i, runs',
    async (page, line, block) => {
      const name = `${page.replace(/\W+/g, '-')}-${line}`;
      // Its own folder, because some write files.
      const folder = join(FOLDER, name);
      mkdirSync(folder);
      const file = join(folder, 'block.mjs');
      writeFileSync(file, await moduleOf(block));
      const surroundings = isFastify(block) ? `${page}#fastify` : page;
      expect(await runner.run({ file, folder, surroundings })).toEqual([]);
    },
  );
});

test('blocks of all kinds of pages are found', () => {
  expect(new Set(blocks.map(({ page }) => page)).size).toBeGreaterThan(8);
  expect(blocks.filter(needsStore).length).toBeGreaterThan(0);
  expect(blocks.filter(isFastify).length).toBeGreaterThan(0);
});
