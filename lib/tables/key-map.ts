// A Map with peers' keys. An attacker cannot choose keys that collide in it.
//
// V8 treats a string of one to ten digits as the index of an array. Before Node 20.20.2, 22.22.2, 24.14.1 and 25.8.2 it
// hashes such strings by their value, without a secret: 60,000 multiples of 65,536 end up in one chain, and a look-up
// takes half a millisecond. So a key of digits is stored with a mark before it, and V8 hashes it with its secret like
// any other text.

/** Put before a key of digits, and before a key that begins with it, so that two keys never become equal. */
const MARK = '\0';
const ZERO = 48;
const NINE = 57;
/** The number of digits of the largest index of an array, 2^32 - 2. */
const MOST_DIGITS = 10;

// The last key of digits without and with its mark, cached because a refused check looks up one key in several Maps.
let lastDigits = '0';
let lastMarked = MARK + lastDigits;

/** The string under which a Map stores `key`, unique per key. Nearly always the key itself. */
function marked(key: string): string {
  const first = key.charCodeAt(0);
  if (first > NINE) return key;
  if (first === 0) return MARK + key;
  if (key === lastDigits) return lastMarked;
  if (!isDigits(key)) return key;
  lastDigits = key;
  lastMarked = MARK + key;
  return lastMarked;
}

function isDigits(key: string): boolean {
  if (key.length > MOST_DIGITS) return false;
  for (let i = 0; i < key.length; i += 1) {
    const unit = key.charCodeAt(i);
    if (unit < ZERO || unit > NINE) return false;
  }
  return key !== '';
}

/** The inverse of marked(). */
function unmarked(key: string): string {
  return key.charCodeAt(0) === 0 ? key.slice(1) : key;
}

/** A Map with peers' keys. Its methods work as those of Map. */
export class KeyMap<T> {
  readonly #entries = new Map<string, T>();

  get size(): number {
    return this.#entries.size;
  }

  get(key: string): T | undefined {
    return this.#entries.get(marked(key));
  }

  has(key: string): boolean {
    return this.#entries.has(marked(key));
  }

  set(key: string, value: T): void {
    this.#entries.set(marked(key), value);
  }

  delete(key: string): boolean {
    return this.#entries.delete(marked(key));
  }

  clear(): void {
    this.#entries.clear();
  }

  *keys(): Generator<string, void> {
    for (const key of this.#entries.keys()) yield unmarked(key);
  }

  values(): IterableIterator<T> {
    return this.#entries.values();
  }

  *entries(): Generator<[key: string, value: T], void> {
    for (const [key, value] of this.#entries) yield [unmarked(key), value];
  }

  [Symbol.iterator](): Generator<[key: string, value: T], void> {
    return this.entries();
  }
}
