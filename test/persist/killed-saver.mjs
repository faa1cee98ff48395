// Saves one snapshot. At each step of the save it copies the folder of the file, or it kills its process at one step: what
// a killed process leaves is what its files contain at that moment. A step is a call of the file system, except for calls
// that only read: before such a call the file is the same as before the next step.
//
//   node killed-saver.mjs FILE SNAPSHOT PLACE COPIES           copies the folder to COPIES/STEP-MOMENT, prints all steps
//   node killed-saver.mjs FILE SNAPSHOT PLACE STEP MOMENT      kills its process
//
// SNAPSHOT is a file with the JSON to save. PLACE is the location of FILE: a writable `folder`, a `mount` point, which a
// rename cannot replace, or a `read-only` folder. MOMENT is `before` the call, or `half`, after half of the bytes of the
// call are written. After a call is the same as before the next one; the last step is the end of the save.

import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { dirname } from 'node:path';
import { saveSnapshot } from 'relay-limiter/persist';

const [file, given, place, target, killedAt] = process.argv.slice(2);
const { cpSync } = fs;
const snapshot = JSON.parse(fs.readFileSync(given, 'utf8'));
const READING = /^(constructor|read|stat|lstat|realpath|readlink|readdir|close|get)/;
const steps = [];
let isSaving = false;

/** The calls that take bytes, as two calls that take half of them, and what happens between. */
const HALVES = {
  async write(call, between, bytes, start = 0, length = bytes.length - start, position) {
    const half = Math.ceil(length / 2);
    await call(bytes, start, half, position);
    between();
    const next = typeof position === 'number' ? position + half : position;
    await call(bytes, start + half, length - half, next);
    return { bytesWritten: length, buffer: bytes };
  },
  async writeFile(call, between, bytes) {
    const half = Math.ceil(bytes.length / 2);
    await call(bytes.subarray(0, half));
    between();
    await call(bytes.subarray(half));
  },
};

/** Copies the folder, or kills the process if this is the moment. */
function reach(moment) {
  if (killedAt === undefined) {
    isSaving = false;
    cpSync(dirname(file), `${target}/${steps.length}-${moment}`, { recursive: true });
    isSaving = true;
  } else if (steps.length === Number(target) && moment === killedAt) {
    process.kill(process.pid, 'SIGKILL');
  }
}

function recordStep(name, takesBytes) {
  steps.push({ name, takesBytes });
  reach('before');
}

function counted(name, call) {
  return function (...args) {
    if (!isSaving) return call.apply(this, args);
    recordStep(name, name in HALVES);
    if (!(name in HALVES)) return call.apply(this, args);
    return HALVES[name](call.bind(this), () => reach('half'), ...args);
  };
}

/** Makes a function of the file system fail with a code for the calls that `isFailing` selects. */
function makeFail(name, code, isFailing) {
  const call = fs.promises[name];
  fs.promises[name] = (...args) =>
    isFailing(args) ? Promise.reject(Object.assign(new Error(code), { code })) : call(...args);
}

function countCalls(object, isStep) {
  for (const [name, { value }] of Object.entries(Object.getOwnPropertyDescriptors(object))) {
    if (typeof value === 'function' && isStep(name)) object[name] = counted(name, value);
  }
}

if (place === 'mount') makeFail('rename', 'EBUSY', ([, to]) => to === file);
if (place === 'read-only') makeFail('open', 'EROFS', ([, flags]) => flags === 'wx');
const handle = await fs.promises.open(given);
countCalls(Object.getPrototypeOf(handle), (name) => !READING.test(name));
await handle.close();
countCalls(fs.promises, (name) => !READING.test(name));
countCalls(fs, (name) => name.endsWith('Sync') && !READING.test(name));
syncBuiltinESMExports();

// Two processes write the same bytes.
Date.now = () => 1_700_000_000_000;
isSaving = true;
await saveSnapshot({ snapshot: () => snapshot, restore: () => 0 }, file);
recordStep('end', false);
console.log(JSON.stringify(steps));
