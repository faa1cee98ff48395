// Saves one snapshot, and kills itself at one step of that. A step is a call of the file system.
//
//   node killed-saver.mjs FILE SNAPSHOT [STEP MOMENT]
//
// SNAPSHOT is a file with the JSON to save. MOMENT is `before` the call, or `half`: when half of the bytes that
// the call was given are written. After a call is before the next one: the last step is the end of the save.
// Without a step it prints all steps as JSON.

import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { saveSnapshot } from 'relay-limiter/persist';

const [file, given, killedAt, moment] = process.argv.slice(2);
const snapshot = JSON.parse(fs.readFileSync(given, 'utf8'));
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
    if (!isSaving || !isHalved(name, ArrayBuffer.isView(args[0]))) return call.apply(this, args);
    const [bytes, at = 0, length = bytes.length - at] = args;
    return call.call(this, bytes.subarray(at, at + Math.ceil(length / 2))).finally(die);
  };
}

function countCalls(object, isStep) {
  for (const [name, { value }] of Object.entries(Object.getOwnPropertyDescriptors(object))) {
    if (typeof value === 'function' && isStep(name)) object[name] = counted(name, value);
  }
}

const handle = await fs.promises.open(given);
countCalls(Object.getPrototypeOf(handle), (name) => name !== 'constructor');
await handle.close();
countCalls(fs.promises, () => true);
countCalls(fs, (name) => name.endsWith('Sync'));
syncBuiltinESMExports();

isSaving = true;
await saveSnapshot({ snapshot: () => snapshot, restore: () => 0 }, file);
isHalved('end', false);
console.log(JSON.stringify(steps));
