// The pairs of the migration guides, docs/migration*.md: the program with another package, and the one with relay-limiter.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Block, blocksOf } from '../docs/pages.js';
import { ROOT } from './processes.js';

/** A pair: the programs under the last heading before them. */
export interface Pair {
  readonly name: string;
  readonly before: Block;
  readonly after: Block;
}

/** The pairs of a page. Throws if a section with programs has another number of them than two. */
export function pairsOf(page: string): Pair[] {
  const text = readFileSync(join(ROOT, page), 'utf8');
  const found: Pair[] = [];
  for (const section of text.split(/^##+ /m)) {
    const blocks = blocksOf(section);
    if (blocks.length === 0) continue;
    const name = section.slice(0, section.indexOf('\n'));
    const [before, after] = blocks;
    if (before === undefined || after === undefined || blocks.length > 2) {
      throw new Error(`${page}: "${name}" must have two programs, got ${blocks.length}`);
    }
    found.push({ name, before, after });
  }
  return found;
}

/** Turns the program's imports into variables that `load(module)` provides, so that it can run as the body of a function. */
function withoutImports(program: string): string {
  return program.replaceAll(
    /^import (?:(\w+)|(\{[^}]*\})) from '([^']+)';$/gm,
    (_, name: string | undefined, names: string, module: string) =>
      name === undefined
        ? `const ${names} = await load('${module}');`
        : `const { default: ${name} } = await load('${module}');`,
  );
}

/**
 * Runs the program as the body of an async function.
 * @param given what the program finds; `load` gets the name of each module that it imports
 * @param result an expression in the program's names
 */
export function runProgram(
  program: string,
  given: { load: (module: string) => Promise<unknown> } & Record<string, unknown>,
  result = 'undefined',
): Promise<unknown> {
  const AsyncFunction = runProgramAsync.constructor as FunctionConstructor;
  const code = `${withoutImports(program)}\nreturn ${result};`;
  return AsyncFunction(...Object.keys(given), code)(...Object.values(given)) as Promise<unknown>;
}

async function runProgramAsync(): Promise<void> {}
