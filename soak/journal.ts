// The last calls of a round, printed after a failure.

import type { Tally } from './tally.js';

const LENGTH = 30;

export class Journal {
  /** A ring buffer: the oldest call is at `#count % LENGTH`. */
  readonly #calls: unknown[][] = [];
  #count = 0;
  readonly #tally: Tally;

  /** `tally` counts each call as an operation. */
  constructor(tally: Tally) {
    this.#tally = tally;
  }

  note(...call: unknown[]): void {
    this.#calls[this.#count % LENGTH] = call;
    this.#count += 1;
    this.#tally.operations += 1;
  }

  text(): string {
    const calls = this.#calls.map((_, i) => this.#calls[(this.#count + i) % this.#calls.length]);
    return calls.map((call) => `  ${JSON.stringify(call, shorten)}`).join('\n');
  }
}

function shorten(_: string, value: unknown): unknown {
  if (typeof value === 'string' && value.length > 60)
    return `${value.slice(0, 60)} ... (${value.length})`;
  if (typeof value === 'number' && !Number.isFinite(value)) return String(value);
  return Array.isArray(value) && value.length > 12 ? `${value.length} elements` : value;
}
