// Preloaded by NODE_OPTIONS: every process and thread of Node stands still again and again for a random time, as it does on
// a machine that has no processor left for it.

const LONGEST_MS = 600;
const LONGEST_PAUSE_MS = 60;

// Tests replace these.
const { setTimeout } = globalThis;
const { random } = Math;
const never = new Int32Array(new SharedArrayBuffer(4));

/** Mostly for a short time, seldom for long: a quarter of the longest on average. */
function standStill() {
  Atomics.wait(never, 0, 0, LONGEST_MS * random() ** 3);
  runAWhile();
}

function runAWhile() {
  setTimeout(standStill, LONGEST_PAUSE_MS * random()).unref();
}

runAWhile();
