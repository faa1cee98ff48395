// Keys of peers. Each is a new flat string, as a relay gets it from a socket: not a slice or a concatenation, which V8
// would have to flatten first.

/** Typical lengths of keys: an address with its port, a UUID, a public key with a prefix. */
export const KEY_LENGTHS = [21, 36, 70] as const;

// An address and a port, followed by padding for longer keys. Overwritten for each key.
const bytes = Buffer.from('100.000.000.000:00000'.padEnd(256, 'abcdef0123456789'), 'latin1');

/** Returns the key of peer `n` (below 50,000,000,000), with a length from 21 to 256 characters. */
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
 * The peers of a limiter, and a sample of their keys to be timed. The sample is in random order, so that neighbours in
 * it are not neighbours in memory.
 */
export class Peers {
  readonly size: number;
  /** The keys to be timed, at most `most` of them. */
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

  /** Returns the key of peer `n`. For a peer of the sample it is the same string object. */
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
