// Keys of peers. Flat strings, each made anew: what a relay gets from its sockets, and not the slices
// and concatenations that V8 would first have to flatten.

/** Lengths that keys have: an address with its port, a UUID, a public key with a prefix. */
export const KEY_LENGTHS = [21, 36, 70] as const;

// An address and a port, and behind it what makes a key longer; written over for each.
const bytes = Buffer.from('100.000.000.000:00000'.padEnd(256, 'abcdef0123456789'), 'latin1');

/** The key of peer `n`, below fifty thousand million, of some length from 21 to 256. */
export function peerKey(n: number, length = 21): string {
  const host = Math.floor(n / 50_000);
  writeDigits(4, 3, Math.floor(host / 1000));
  writeDigits(8, 3, host % 1000);
  writeDigits(12, 3, 100 + (n % 900));
  writeDigits(16, 5, 10_000 + (n % 50_000));
  return bytes.toString('latin1', 0, length);
}

function writeDigits(at: number, count: number, value: number): void {
  let rest = value;
  for (let i = at + count - 1; i >= at; i -= 1) {
    bytes[i] = 48 + (rest % 10);
    rest = Math.floor(rest / 10);
  }
}

/**
 * A limiter's peers, of which some are kept to be timed: a key in so many, in random order, so that
 * no two neighbours are neighbours in memory.
 */
export class Peers {
  readonly size: number;
  /** The keys to be timed, at most `most`. */
  readonly sample: string[];
  readonly #inOrder: string[];
  readonly #stride: number;

  constructor(size: number, most = 2_000_000) {
    this.size = size;
    this.#stride = Math.ceil(size / most);
    const count = Math.ceil(size / this.#stride);
    this.#inOrder = Array.from({ length: count }, (_, i) => peerKey(i * this.#stride));
    this.sample = shuffled(this.#inOrder);
  }

  /** The key of peer `n`: of those that are timed, the very string. */
  key(n: number): string {
    return n % this.#stride === 0 ? (this.#inOrder[n / this.#stride] as string) : peerKey(n);
  }
}

export function shuffled<T>(values: readonly T[]): T[] {
  const result = values.slice();
  for (let i = result.length - 1; i > 0; i -= 1) {
    const j = Math.floor(Math.random() * (i + 1));
    [result[i], result[j]] = [result[j] as T, result[i] as T];
  }
  return result;
}
