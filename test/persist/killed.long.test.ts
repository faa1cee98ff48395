// A process ends at any step of a save. Afterwards the file has the old or the new content, complete.

import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { loadSnapshot, saveSnapshot } from 'relay-limiter/persist';
import { describe, expect, test } from 'vitest';
import { writeDocument } from '../../dist/persist/document.js';
import { overwriteFile } from '../../dist/persist/in-place.js';
import { slicesOf } from '../../dist/persist/slices.js';
import { start } from '../support/processes.js';
import { Notebook, testFolder } from './support.js';

const SAVER = fileURLToPath(new URL('killed-saver.mjs', import.meta.url));

type Moment = 'before' | 'half';

interface Step {
  /** The name of a function of node:fs. */
  name: string;
  takesBytes: boolean;
}

/** Offenders without a ban and without a time: such a snapshot does not change with its age. */
const snapshotOf = (name: string, count: number) => ({
  peers: Array.from({ length: count }, (_, n) => ({
    key: `${name}-${n}`,
    violations: 1,
    banSecondsLeft: null,
    idleSeconds: null,
  })),
});
// More than one write contains.
const MANY = 1500;
const FEW = 100;

const folder = testFolder();

/** A folder of its own for one save, with the old file or an empty one in it if there is one. */
function prepare(name: string, before: 'old' | 'empty' | 'none'): string {
  mkdirSync(folder.file(name));
  const file = join(folder.file(name), 'bans.json');
  if (before === 'old') copyFileSync(folder.file('old'), file);
  if (before === 'empty') writeFileSync(file, '');
  return file;
}

const momentsOf = (takesBytes: boolean): Moment[] => (takesBytes ? ['before', 'half'] : ['before']);

/** What the files of a folder contain. The names of temporary files are random. */
const contentsOf = (path: string) =>
  readdirSync(path)
    .map((name) => [name === 'bans.json' ? name : '', readFileSync(join(path, name), 'utf8')])
    .sort();

const leftoversOf = (file: string) =>
  readdirSync(join(file, '..')).filter((name) => name !== 'bans.json');

describe.each([
  {
    where: 'a folder of its own',
    place: 'folder',
    before: 'old',
    counts: [FEW, MANY],
    isKilled: true,
  },
  {
    where: 'a folder without such a file',
    place: 'folder',
    before: 'none',
    counts: [FEW, MANY],
    isKilled: false,
  },
  {
    where: 'place of a longer file',
    place: 'mount',
    before: 'old',
    counts: [MANY, FEW],
    isKilled: true,
  },
  {
    where: 'place of a shorter file',
    place: 'mount',
    before: 'old',
    counts: [FEW, MANY],
    isKilled: false,
  },
  {
    where: 'place of an empty file',
    place: 'mount',
    before: 'empty',
    counts: [FEW, MANY],
    isKilled: false,
  },
  {
    where: 'a read-only folder',
    place: 'read-only',
    before: 'old',
    counts: [FEW, MANY],
    isKilled: true,
  },
] as const)('a process that saves in $where', ({ place, before, counts, isKilled }) => {
  const OLD = snapshotOf('old', counts[0]);
  const NEW = snapshotOf('new', counts[1]);

  /** Whether the file is the old one, the new one, without a document, or not there. */
  async function contentOf(file: string): Promise<string> {
    const notebook = new Notebook();
    if ((await loadSnapshot(notebook, file)) === 0) return existsSync(file) ? 'empty' : 'none';
    const isNew = JSON.stringify(notebook.restored).includes('new');
    expect(JSON.stringify(notebook.restored)).toBe(JSON.stringify(isNew ? NEW : OLD));
    return isNew ? 'new' : 'old';
  }

  async function save(name: string, ...args: string[]) {
    const file = prepare(name, before);
    const { output } = await start(SAVER, [file, folder.file('new.json'), place, ...args]).ended;
    return { file, output };
  }

  /** Saves once. Returns the steps of that, of each of which there is a copy of the folder. */
  async function saveByStep(): Promise<Step[]> {
    await saveSnapshot(new Notebook(OLD), folder.file('old'));
    writeFileSync(folder.file('new.json'), JSON.stringify(NEW));
    const { file, output } = await save('whole', folder.file('copies'));
    expect(await contentOf(file)).toBe('new');
    return JSON.parse(output);
  }

  const copyOf = (step: number, moment: Moment) => folder.file(`copies/${step}-${moment}`);

  /** Checks what a process leaves that ends at one moment of a step, and saves again. */
  async function endedAt(step: number, moment: Moment) {
    const file = join(copyOf(step, moment), 'bans.json');
    const content = await contentOf(file);
    const leftovers = leftoversOf(file);
    // The next process overwrites the file in place, even an incomplete one.
    if (place !== 'folder') {
      await overwriteFile(file, writeDocument(slicesOf(new Notebook(NEW))));
      expect(await contentOf(file)).toBe('new');
      // No rest of the old content follows the new content.
      expect(Object.keys(JSON.parse(readFileSync(file, 'utf8')))).toContain('sha256');
    }
    for (const name of leftovers) utimesSync(join(file, '..', name), 0, 0);
    await saveSnapshot(new Notebook(NEW), file);
    expect(await contentOf(file)).toBe('new');
    expect(leftoversOf(file)).toEqual([]);
    return { content, leftovers: leftovers.length };
  }

  test('leaves a complete file at any step, and the next save cleans up', async () => {
    const steps = await saveByStep();
    const contents: string[] = [];
    const leftovers: number[] = [];
    for (const [n, { takesBytes }] of steps.entries()) {
      for (const moment of momentsOf(takesBytes)) {
        const ended = await endedAt(n + 1, moment);
        contents.push(ended.content);
        leftovers.push(ended.leftovers);
      }
    }
    // The new content appears at one step, and is there after all later steps.
    expect(contents.join(' ')).toMatch(new RegExp(`^(${before} )+(new ?)+$`));
    // At most one temporary file is left, complete or not.
    expect(new Set(leftovers)).toEqual(new Set(place === 'read-only' ? [0] : [0, 1]));
    expect(steps.filter(({ takesBytes }) => takesBytes).length).toBeGreaterThan(0);
  });

  // Kinds of steps depend on the place only.
  if (!isKilled) return;
  test('leaves what it had written so far if it is killed, at the first step of each kind', async () => {
    const steps = await saveByStep();
    const names = steps.map(({ name }) => name);
    for (const [n, { name, takesBytes }] of steps.entries()) {
      if (names.indexOf(name) !== n) continue;
      for (const moment of momentsOf(takesBytes)) {
        const step = n + 1;
        const { file, output } = await save(`${step} ${moment}`, String(step), moment);
        // A process that reaches its end prints something.
        expect(output).toBe('');
        expect(contentsOf(join(file, '..'))).toEqual(contentsOf(copyOf(step, moment)));
      }
    }
  });
});
