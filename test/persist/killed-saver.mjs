// Saves one snapshot, and kills itself at one step of that. A step is a call of the file system, but for those that
// only look: before one of these a file is as it is before the next step.
//
//   node killed-saver.mjs FILE SNAPSHOT PLACE [STEP MOMENT]
//
// SNAPSHOT is a file with the JSON to save. PLACE is where FILE is: in a `folder` of ours, a `mount` point, which no other file
// can replace, or in a folder that is `read-only`. MOMENT is `before` the call, or `half`: when half of the bytes that
// the call was given are written. After a call is before the next one: the last step is the end of the save.
// Without a step it prints all steps as JSON.

import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { saveSnapshot } from 'relay-limiter/persist';

const [file, given, place, killedAt, moment] = process.argv.slice(2);
const snapshot = JSON.parse(fs.readFileSync(given, 'utf8'));
const LOOKING = /^(constructor|read|stat|lstat|realpath|readlink|readdir|close|get)/;
const steps = [];
let isSaving = false;

const die = () => process.kill(process.pid, 'SIGKILL');

/** Notes a step, and ends the process where it is to end before that; true where it is to end halfway. */
function isHalved(name, takesBytes) {
  if (steps.push({ name, takesBytes }) !== Number(killedAt)) return false;
  if (moment === 'before') die();
  return true;
}

function counted(name, call) {
  return function (...args) {
    if (!isSaving || !isHalved(name, name === 'write')) return call.apply(this, args);
    const [bytes, at = 0, length = bytes.length - at, position] = args;
    return call.call(this, bytes, at, Math.ceil(length / 2), position).finally(die);
  };
}

/** Lets a function of the file system fail as the system's does, for some calls. */
function failing(name, code, isMeant) {
  const call = fs.promises[name];
  fs.promises[name] = (...args) =>
    isMeant(args) ? Promise.reject(Object.assign(new Error(code), { code })) : call(...args);
}

function countCalls(object, isStep) {
  for (const [name, { value }] of Object.entries(Object.getOwnPropertyDescriptors(object))) {
    if (typeof value === 'function' && isStep(name)) object[name] = counted(name, value);
  }
}

if (place === 'mount') failing('rename', 'EBUSY', ([, to]) => to === file);
if (place === 'read-only') failing('open', 'EROFS', ([, flags]) => flags === 'wx');
const handle = await fs.promises.open(given);
countCalls(Object.getPrototypeOf(handle), (name) => !LOOKING.test(name));
await handle.close();
countCalls(fs.promises, (name) => !LOOKING.test(name));
countCalls(fs, (name) => name.endsWith('Sync') && !LOOKING.test(name));
syncBuiltinESMExports();

isSaving = true;
await saveSnapshot({ snapshot: () => snapshot, restore: () => 0 }, file);
isHalved('end', false);
console.log(JSON.stringify(steps));
