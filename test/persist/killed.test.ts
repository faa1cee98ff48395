// Processes killed in the middle of a save: the file is the old one or the new one.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout } from 'node:timers/promises';
import { loadSnapshot } from 'relay-limiter/persist';
import { expect, test } from 'vitest';
import { ROOT } from '../support/processes.js';
import { seeded } from '../support/random.js';
import { Notebook, testFolder } from './support.js';

const folder = testFolder();
const KILLS = 30;

/** Saves one snapshot after another and says, without delay, which are begun and which are done. */
const SAVES = `
  import { writeSync } from 'node:fs';
  import { saveSnapshot } from 'relay-limiter/persist';
  const [file, first] = process.argv.slice(1);
  for (let n = Number(first); ; n += 1) {
    const text = String(n % 10).repeat(n % 2 ? 3_000_000 : 300_000);
    writeSync(1, '+');
    await saveSnapshot({ snapshot: () => ({ n, text }), restore: () => 0 }, file);
    writeSync(1, '-');
  }
`;

/** Starts it, kills it `milliseconds` after it has begun; what it said. */
async function killed(first: number, milliseconds: number): Promise<string> {
  const args = ['--input-type=module', '--eval', SAVES, folder.file(), String(first)];
  const child: ChildProcess = spawn(process.execPath, args, { cwd: ROOT });
  let said = '';
  child.stdout?.setEncoding('latin1').on('data', (text) => {
    said += text;
  });
  await once(child.stdout as NodeJS.EventEmitter, 'data');
  await setTimeout(milliseconds);
  child.kill('SIGKILL');
  await once(child, 'close');
  return said;
}

test(`${KILLS} times killed, the file is whole and none of what was done is lost`, async () => {
  const seed = Math.floor(Math.random() * 2 ** 31);
  console.log(`killed: seed ${seed}`);
  const random = seeded(seed);
  let done = -1;
  let inTheMiddle = 0;
  for (let kill = 0; kill < KILLS; kill += 1) {
    const first = done + 1;
    const said = await killed(first, random.below(40));
    const begun = first + said.split('+').length - 2;
    const least = Math.max(done, first + said.split('-').length - 2);
    if (said.endsWith('+')) inTheMiddle += 1;
    const notebook = new Notebook();
    const loaded = await loadSnapshot(notebook, folder.file());
    const { n = -1, text = '' } = (notebook.restored ?? {}) as { n?: number; text?: string };
    expect(n).toBeGreaterThanOrEqual(least);
    expect(n).toBeLessThanOrEqual(begun);
    if (loaded === 1) expect(text).toBe(String(n % 10).repeat(n % 2 ? 3_000_000 : 300_000));
    done = n;
  }
  expect(inTheMiddle).toBeGreaterThan(KILLS / 4);
  // Killed after the temporary file was made, and before it had its name.
  expect(folder.entries().filter((name) => name.endsWith('.tmp')).length).toBeGreaterThan(0);
});
