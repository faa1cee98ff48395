// A process that is killed at every step of a save: its file is the old one or the new one.

import { copyFileSync, mkdirSync, readdirSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { loadSnapshot, saveSnapshot } from 'relay-limiter/persist';
import { describe, expect, test } from 'vitest';
import { start } from '../support/processes.js';
import { Notebook, testFolder } from './support.js';

const SAVER = fileURLToPath(new URL('killed-saver.mjs', import.meta.url));

type Moment = 'before' | 'half';

interface Step {
  /** The function of the file system. */
  name: string;
  takesBytes: boolean;
}

/** Offenders without a ban or a last time: a snapshot that does not age. */
const snapshotOf = (name: string, count: number) => ({
  peers: Array.from({ length: count }, (_, n) => ({
    key: `${name}-${n}`,
    violations: 1,
    banSecondsLeft: null,
    idleSeconds: null,
  })),
});
const OLD = snapshotOf('old', 100);
// More than are written at a time.
const NEW = snapshotOf('new', 1500);

const folder = testFolder();

/** A folder of its own for one save, the old file in it if there is one. */
function prepare(name: string, hasOld: boolean): string {
  mkdirSync(folder.file(name));
  const file = join(folder.file(name), 'bans.json');
  if (hasOld) copyFileSync(folder.file('old'), file);
  return file;
}

/** Whether the file is the old one, the new one, or not there. */
async function contentOf(file: string): Promise<string> {
  const notebook = new Notebook();
  if ((await loadSnapshot(notebook, file)) === 0) return 'none';
  const isNew = JSON.stringify(notebook.restored).includes('new');
  expect(JSON.stringify(notebook.restored)).toBe(JSON.stringify(isNew ? NEW : OLD));
  return isNew ? 'new' : 'old';
}

const leftoversOf = (file: string) =>
  readdirSync(join(file, '..')).filter((name) => name !== 'bans.json');

describe.each([
  ['an old file', 'old'],
  ['no file', 'none'],
])('a process that saves where there is %s', (_, before) => {
  const save = (name: string, ...args: string[]) => {
    const file = prepare(name, before === 'old');
    return { file, ended: start(SAVER, [file, folder.file('new.json'), ...args]).ended };
  };

  /** Kills a process at one moment of a step, looks at its file, and saves once more. */
  async function killedAt(step: number, moment: Moment) {
    const { file, ended } = save(`${step} ${moment}`, String(step), moment);
    // It has printed nothing: it did not get to its end.
    expect(await ended).toMatchObject({ output: '' });
    const content = await contentOf(file);
    const leftovers = leftoversOf(file);
    for (const name of leftovers) utimesSync(join(file, '..', name), 0, 0);
    await saveSnapshot(new Notebook(NEW), file);
    expect(await contentOf(file)).toBe('new');
    expect(leftoversOf(file)).toEqual([]);
    return { content, leftovers: leftovers.length };
  }

  test('leaves a whole file, whenever it is killed, and the next save tidies up', async () => {
    await saveSnapshot(new Notebook(OLD), folder.file('old'));
    writeFileSync(folder.file('new.json'), JSON.stringify(NEW));
    const whole = save('whole');
    const steps: Step[] = JSON.parse((await whole.ended).output);
    expect(await contentOf(whole.file)).toBe('new');
    const contents: string[] = [];
    const leftovers: number[] = [];
    for (const [n, { takesBytes }] of steps.entries()) {
      const moments: Moment[] = takesBytes ? ['before', 'half'] : ['before'];
      const all = await Promise.all(moments.map((moment) => killedAt(n + 1, moment)));
      contents.push(...all.map(({ content }) => content));
      leftovers.push(...all.map((one) => one.leftovers));
    }
    // Each step is done once; so the new file comes at one of them, and is there from then on.
    expect(contents.join(' ')).toMatch(new RegExp(`^(${before} )+(new ?)+$`));
    // At most the one temporary file, and one in the middle of a write.
    expect(new Set(leftovers)).toEqual(new Set([0, 1]));
    expect(steps.filter(({ takesBytes }) => takesBytes).length).toBeGreaterThan(0);
  });
});
