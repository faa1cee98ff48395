// Virtual time: timers, Date.now and performance.now of a program that takes hours, run in seconds. Random numbers come
// from a seed, so that each run gives the same result.

interface Timer {
  readonly at: number;
  readonly number: number;
  readonly callback: () => void;
}

/** Runs `program` in virtual time, which begins at a whole minute, and returns its result. */
export async function inVirtualTime<T>(
  seed: number,
  program: (now: () => number, random: () => number) => Promise<T>,
): Promise<T> {
  const start = 1_800_000_000_000;
  let nowMs = start;
  let number = 0;
  const timers = new Map<number, Timer>();
  const heap: Timer[] = [];
  const setTimer = (callback: () => void, ms: number) => {
    number += 1;
    const timer = { at: nowMs + Math.max(1, Math.ceil(ms)), number, callback };
    timers.set(number, timer);
    push(heap, timer);
    return handleOf(number);
  };
  const clear = (handle: unknown) => void timers.delete(Number(handle));
  const original = {
    setTimeout: globalThis.setTimeout,
    clearTimeout: globalThis.clearTimeout,
    setInterval: globalThis.setInterval,
    clearInterval: globalThis.clearInterval,
    dateNow: Date.now,
    performanceNow: performance.now,
    random: Math.random,
  };
  Object.assign(globalThis, {
    setTimeout: (callback: (...args: unknown[]) => void, ms = 0, ...args: unknown[]) =>
      setTimer(() => callback(...args), ms),
    clearTimeout: clear,
    setInterval: (callback: () => void, ms = 0) => {
      let current = setTimer(tick, ms);
      function tick() {
        current = setTimer(tick, ms);
        callback();
      }
      return { ...current, [Symbol.toPrimitive]: () => Number(current) };
    },
    clearInterval: clear,
  });
  Date.now = () => nowMs;
  performance.now = () => nowMs - start;
  const random = randomNumbers(seed);
  Math.random = random;
  try {
    let isDone = false;
    const result = program(() => (nowMs - start) / 1000, random).finally(() => {
      isDone = true;
    });
    for (;;) {
      await new Promise((resolve) => setImmediate(resolve));
      if (isDone) return await result;
      const next = pop(heap);
      if (next === undefined) throw new Error('the program waits for ever');
      if (!timers.delete(next.number)) continue;
      nowMs = next.at;
      next.callback();
    }
  } finally {
    const { dateNow, performanceNow, random: originalRandom, ...functions } = original;
    Object.assign(globalThis, functions);
    Date.now = dateNow;
    performance.now = performanceNow;
    Math.random = originalRandom;
  }
}

/** Libraries call `unref` on timers, and pass them to `clearTimeout`. */
function handleOf(number: number) {
  const handle = {
    ref: () => handle,
    unref: () => handle,
    hasRef: () => true,
    [Symbol.toPrimitive]: () => number,
  };
  return handle;
}

function isBefore(a: Timer, b: Timer): boolean {
  return a.at === b.at ? a.number < b.number : a.at < b.at;
}

function push(heap: Timer[], timer: Timer): void {
  let index = heap.length;
  while (index > 0) {
    const parent = (index - 1) >> 1;
    if (!isBefore(timer, heap[parent] as Timer)) break;
    heap[index] = heap[parent] as Timer;
    index = parent;
  }
  heap[index] = timer;
}

function pop(heap: Timer[]): Timer | undefined {
  const first = heap[0];
  const last = heap.pop();
  if (last === undefined || heap.length === 0) return first;
  let index = 0;
  for (;;) {
    let child = 2 * index + 1;
    if (child >= heap.length) break;
    const right = heap[child + 1];
    if (right !== undefined && isBefore(right, heap[child] as Timer)) child += 1;
    if (!isBefore(heap[child] as Timer, last)) break;
    heap[index] = heap[child] as Timer;
    index = child;
  }
  heap[index] = last;
  return first;
}

/** Returns a function that returns the same numbers for the same seed (mulberry32). */
function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let bits = Math.imul(state ^ (state >>> 15), 1 | state);
    bits = (bits + Math.imul(bits ^ (bits >>> 7), 61 | bits)) ^ bits;
    return ((bits ^ (bits >>> 14)) >>> 0) / 2 ** 32;
  };
}
