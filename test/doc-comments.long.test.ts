// The doc comments of what the package exports: each class and function has one, with an example. All examples of lib/
// compile and run, those of methods too.

import { execFile } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { transform } from 'esbuild';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { anyStore, NO_STORE } from './redis/support/store.js';
import { ModuleRunner } from './support/module-runner.js';

const run = promisify(execFile);
const ROOT = fileURLToPath(new URL('..', import.meta.url));
const EXAMPLES = join(ROOT, 'out', 'doc-examples');
const read = (path: string) => readFileSync(join(ROOT, path), 'utf8');

interface Exported {
  readonly entry: string;
  readonly name: string;
  readonly kind: string;
  readonly comment: string;
}

/** The classes, functions and constants of every entry, with their doc comments. */
function exportedValues(): Exported[] {
  const { exports } = JSON.parse(read('package.json')) as { exports: Record<string, unknown> };
  return Object.keys(exports)
    .filter((entry) => entry !== './package.json')
    .flatMap((entry) => {
      const index = join('lib', entry, 'index.ts');
      const lists = read(index).matchAll(/^export \{([^}]*)\} from '([^']+)'/gm);
      return [...lists].flatMap(([, names = '', path = '']) => {
        const source = read(join(dirname(index), path.replace(/\.js$/, '.ts')));
        const values = names
          .split(',')
          .map((name) => name.trim())
          .filter((name) => /^\w+$/.test(name) && name !== 'default');
        return values.map((name) => ({ entry, name, ...declarationOf(source, name) }));
      });
    });
}

function declarationOf(source: string, name: string): { kind: string; comment: string } {
  const keyword = '(?:async )?(?:abstract )?(class|function\\*?|const|enum)';
  const declared = new RegExp(`^(?:declare )?export ${keyword} ${name}\\b`, 'm').exec(source);
  if (declared === null) throw new Error(`${name} must be declared where it is exported from`);
  const before = source.slice(0, declared.index);
  const comment = /\/\*\*((?:(?!\*\/)[\s\S])*)\*\/\s*$/.exec(before)?.[1] ?? '';
  return { kind: declared[1] as string, comment: textOf(comment) };
}

/** The text of a doc comment, without its stars. */
const textOf = (comment: string) => comment.replace(/^[ \t]*\* ?/gm, '').trim();

/** The code of the comment's examples. */
function examplesOf(comment: string): string[] {
  return [...comment.matchAll(/^@example\s*\n([\s\S]*?)(?=^@\w|(?![\s\S]))/gm)].map(
    ([, code = '']) => code.replace(/^```\w*\n?/gm, '').trim(),
  );
}

const all = exportedValues();
const documented = all.filter(({ kind }) => kind === 'class' || kind.startsWith('function'));
const title = ({ entry, name }: Exported) => `${join('relay-limiter', entry)}: ${name}`;

/** The examples of all doc comments, under the file and the number of each. */
const examples = readdirSync(join(ROOT, 'lib'), { recursive: true, encoding: 'utf8' })
  .filter((path) => path.endsWith('.ts'))
  .flatMap((path) => {
    const comments = read(join('lib', path)).matchAll(/\/\*\*((?:(?!\*\/)[\s\S])*)\*\//g);
    const codes = [...comments].flatMap(([, comment = '']) => examplesOf(textOf(comment)));
    const name = path.replace(/\.ts$/, '').replace(/\W+/g, '-');
    return codes.map((code, n) => ({
      title: `${path}, ${n + 1}`,
      file: `${name}-${n + 1}.ts`,
      code,
    }));
  });

describe('the doc comment of', () => {
  test.each(all.map((exported) => [title(exported), exported] as const))(
    '%s begins with a sentence',
    (_, { comment }) => {
      expect(comment).toMatch(/^[^@\s][^.]*\.(\s|$)/);
    },
  );

  test.each(documented.map((exported) => [title(exported), exported] as const))(
    '%s has an example',
    (_, exported) => {
      expect(examplesOf(exported.comment)).not.toEqual([]);
    },
  );
});

describe('the examples in the doc comments of', () => {
  let store: Awaited<ReturnType<typeof anyStore>> | undefined;
  let runner: ModuleRunner;

  beforeAll(async () => {
    rmSync(EXAMPLES, { recursive: true, force: true });
    mkdirSync(EXAMPLES, { recursive: true });
    for (const { file, code } of examples)
      writeFileSync(join(EXAMPLES, file), `${code}\nexport {};\n`);
    const options = { extends: '../../tsconfig.json', compilerOptions: { noEmit: true } };
    writeFileSync(
      join(EXAMPLES, 'tsconfig.json'),
      JSON.stringify({ ...options, include: ['*.ts'] }),
    );
    if (NO_STORE === false) store = await anyStore();
    runner = ModuleRunner.start(store && { REDIS_URL: store.url });
  });

  afterAll(() => {
    runner.end();
    store?.close();
  });

  test('lib/ compile', async () => {
    const tsc = join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc');
    const { stdout } = await run(process.execPath, [tsc, '-p', EXAMPLES]).catch((error) => error);
    expect(stdout).toBe('');
  });

  // Those of relay-limiter/redis need a store.
  const runnable = examples.filter(({ file }) => NO_STORE === false || !file.startsWith('redis-'));

  test.each(runnable.map(({ title, file, code }) => [title, file, code] as const))(
    '%s: it runs to its end',
    async (_, file, code) => {
      const { code: script } = await transform(code, {
        loader: 'ts',
        format: 'esm',
        target: 'node20',
      });
      const path = join(EXAMPLES, file.replace(/\.ts$/, '.mjs'));
      writeFileSync(path, script);
      const module = { file: path, folder: ROOT, mustEnd: true };
      // A process is warned that the file of a shared table that it still uses is gone.
      if (!code.includes('removeShared(')) return expect(await runner.run(module)).toEqual([]);
      const alone = ModuleRunner.start();
      onTestFinished(() => alone.end());
      expect(await alone.run(module)).toEqual([]);
    },
  );
});
