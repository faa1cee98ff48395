// StoredKeys stores the texts of offenders' keys, so that statistics and snapshots can list them, in bounded memory.
// It needs a text only of a key that the tables know by an alias: any shorter key is its own text.
//
// A key of up to MOST_UNITS code units is always stored. Longer keys share a budget: a key of up to LONG_UNITS units is
// stored if it fits the budget, a longer one only if the longer keys together stay within a quarter of it. So a few
// huge keys leave memory for others. This is decided once, when the peer becomes an offender.

import { detachString } from '../../common/strings.js';
import { KeyMap } from '../../tables/key-map.js';
import { MOST_UNITS } from '../../tables/keys.js';
import { store } from '../../tables/table.js';

/** The budget for longer keys, at two bytes per code unit: a minimum, and bytes for each of maxPeers. */
const LEAST_LONG_BYTES = 2 ** 20;
const LONG_BYTES_PER_PEER = 64;
const BYTES_PER_UNIT = 2;
/** The longest key that may use the whole budget. */
const LONG_UNITS = 1024;

export class StoredKeys {
  readonly #maxLongBytes: number;
  #longBytes = 0;
  /** Texts by alias. */
  readonly #texts = new KeyMap<string>();
  #missing = 0;

  constructor(maxPeers: number) {
    this.#maxLongBytes = Math.max(LEAST_LONG_BYTES, maxPeers * LONG_BYTES_PER_PEER);
  }

  /** The number of offenders with a key that is not stored. */
  get missing(): number {
    return this.#missing;
  }

  has(key: string): boolean {
    return key.length <= MOST_UNITS || this.#texts.has(key);
  }

  /** The text of a stored key. */
  textOf(key: string): string {
    return this.#texts.get(key) ?? key;
  }

  /**
   * Call this when a peer becomes an offender; `text` is its key's text. @throws `ERR_LIMITER_MEMORY` as
   * `store` does.
   */
  add(key: string, text: string): void {
    if (key.length <= MOST_UNITS) return;
    const bytes = text.length * BYTES_PER_UNIT;
    const most = text.length > LONG_UNITS ? this.#maxLongBytes / 4 : this.#maxLongBytes;
    if (this.#longBytes + bytes > most) {
      this.#missing += 1;
      return;
    }
    store(this.#texts, key, detachString(text));
    this.#longBytes += bytes;
  }

  /** Call this when a peer is no offender any more. */
  remove(key: string): void {
    if (key.length <= MOST_UNITS) return;
    const text = this.#texts.get(key);
    if (text === undefined) {
      this.#missing -= 1;
      return;
    }
    this.#texts.delete(key);
    this.#longBytes -= text.length * BYTES_PER_UNIT;
  }

  clear(): void {
    this.#texts.clear();
    this.#missing = 0;
    this.#longBytes = 0;
  }
}
