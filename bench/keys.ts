// Keys of peers. Flat strings, each made anew: what a relay gets from its sockets, and not the slices
// and concatenations that V8 would first have to flatten.

/** Lengths that keys have: an address with its port, a UUID, a public key with a prefix. */
export const KEY_LENGTHS = [21, 36, 70] as const;

/** The key of peer `n`, below ten thousand million, of some length of at least 21. */
export function peerKey(n: number, length = 21): string {
  const port = 10_000 + (n % 50_000);
  const host = String(Math.floor(n / 50_000)).padStart(6, '0');
  const address = `100.${host.slice(0, 3)}.${host.slice(3)}.${100 + (n % 900)}:${port}`;
  return Buffer.from(address.padEnd(length, 'abcdef0123456789'), 'latin1').toString('latin1');
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
