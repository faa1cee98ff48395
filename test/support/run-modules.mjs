// The process of a ModuleRunner: imports one module after another, and reports what went wrong with each.

import { setTimeout } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { format } from 'node:util';

const [contextUrl] = process.argv.slice(2);
const surround = contextUrl && (await import(contextUrl)).default;

/** What a module that has not ended may still do wrong comes within so many milliseconds. */
const REST_MS = 100;
/** How often, and how long at most, a module is looked at that must end. */
const LOOK_MS = 5;
const PATIENCE_MS = 60_000;
let faults = [];

process.on('uncaughtException', (error) => faults.push(format(error)));
// Warnings are written there too.
const write = process.stderr.write;
process.stderr.write = function (chunk, ...rest) {
  faults.push(String(chunk));
  return write.call(this, chunk, ...rest);
};

/** The names of what keeps this process alive. */
async function active() {
  await setTimeout(LOOK_MS);
  return process.getActiveResourcesInfo();
}

/** Resolves when no more keeps this process alive than `before`. */
async function untilEnded(before) {
  for (let ms = 0; ms < PATIENCE_MS; ms += LOOK_MS) {
    if ((await active()).length <= before.length) return;
  }
  throw new Error(`it has not ended: ${await active()}; before it, ${before}`);
}

process.on('message', async ({ file, folder, surroundings, mustEnd }) => {
  faults = [];
  try {
    process.chdir(folder);
    await surround?.(surroundings);
    const before = await active();
    await import(pathToFileURL(file).href);
    if (mustEnd) await untilEnded(before);
    else await setTimeout(REST_MS);
  } catch (error) {
    faults.push(format(error));
  }
  process.send(faults);
});
process.send('ready');
