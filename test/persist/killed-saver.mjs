// Saves one snapshot and kills its process at one step of the save. A step is a call of the file system, except for calls
// that only read: before such a call the file is the same as before the next step.
//
//   node killed-saver.mjs FILE SNAPSHOT PLACE [STEP MOMENT]
//
// SNAPSHOT is a file with the JSON to save. PLACE is the location of FILE: a writable `folder`, a `mount` point, which a
// rename cannot replace, or a `read-only` folder. MOMENT is `before` the call, or `half`, after half of the bytes of the
// call are written. After a call is the same as before the next one; the last step is the end of the save. Without STEP
// the program prints all steps as JSON.

import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { saveSnapshot } from 'relay-limiter/persist';

const [file, given, place, killedAt, moment] = process.argv.slice(2);
const snapshot = JSON.parse(fs.readFileSync(given, 'utf8'));
const READING = /^(constructor|read|stat|lstat|realpath|readlink|readdir|close|get)/;
const steps = [];
let isSaving = false;

/** The calls that take bytes, with the arguments that write half of them. */
const HALVES = {
  write: (bytes, start = 0, length = bytes.length - start, position) => [
    bytes,
    start,
    Math.ceil(length / 2),
    position,
  ],
  writeFile: (bytes) => [bytes.subarray(0, Math.ceil(bytes.length / 2))],
};

const die = () => process.kill(process.pid, 'SIGKILL');

/** Records a step. Kills the process if it is to end before this step; returns true if it is to end halfway. */
function recordStep(name, takesBytes) {
  if (steps.push({ name, takesBytes }) !== Number(killedAt)) return false;
  if (moment === 'before') die();
  return true;
}

function counted(name, call) {
  return function (...args) {
    if (!isSaving || !recordStep(name, name in HALVES)) return call.apply(this, args);
    return call.apply(this, HALVES[name](...args)).finally(die);
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

isSaving = true;
await saveSnapshot({ snapshot: () => snapshot, restore: () => 0 }, file);
recordStep('end', false);
console.log(JSON.stringify(steps));
