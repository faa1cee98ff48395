// Cuts a stream of bytes into lines. Guarantees that no line and no memory is longer than allowed, and
// that a character whose bytes come in several chunks stays whole. Knows no sockets and no limits.

const LF = 0x0a;
const CR = 0x0d;
const NOTHING = Buffer.alloc(0);

export class LineCutter {
  readonly #maxBytes: number;
  /** What has come and was not cut yet. */
  #chunk: Buffer = NOTHING;
  /** The same, from the LF of the last line on. */
  #chunkWithEnd: Buffer = NOTHING;
  /** Whether the next chunk begins with that LF. */
  #skips = false;
  /** The beginning of a line whose end is still to come: copied, or it would keep whole chunks in memory. */
  #partial: Buffer = NOTHING;
  #partialLength = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Adds a chunk. Every line of those before must have been taken, or their rest. */
  push(chunk: Buffer): void {
    this.#chunk = this.#skips ? chunk.subarray(1) : chunk;
    this.#skips = false;
  }

  /**
   * Takes back what was not cut yet, to be pushed again; with the LF of the line before, if that is not
   * done with: then there is something left in any case.
   */
  rest(withEnd: boolean): Buffer {
    const rest = withEnd ? this.#chunkWithEnd : this.#chunk;
    this.#skips = withEnd;
    this.#chunk = NOTHING;
    return rest;
  }

  /**
   * Takes back everything: what has come of a line whose end is still to come. `skips`: the stream begins
   * with the LF of a line that is done with.
   */
  end(): { begun: Buffer; skips: boolean } {
    const begun = this.#partial.subarray(0, this.#partialLength);
    return { begun, skips: this.#skips };
  }

  /**
   * The next line without its end (LF or CRLF), undefined where none is complete. One that is longer than
   * allowed may be returned before its end has come: nothing may be taken after it.
   */
  next(): Buffer | undefined {
    const end = this.#chunk.indexOf(LF);
    const isWhole = end >= 0;
    const bytes = isWhole ? this.#chunk.subarray(0, end) : this.#chunk;
    this.#chunkWithEnd = isWhole ? this.#chunk.subarray(end) : NOTHING;
    this.#chunk = this.#chunkWithEnd.subarray(1);
    if (isWhole && this.#partialLength === 0) return withoutCR(bytes);
    // One more may be the CR of the line's end.
    if (this.#partialLength + bytes.length > this.#maxBytes + 1) return this.#joined(bytes);
    this.#keep(bytes);
    return isWhole ? this.last() : undefined;
  }

  /** What came after the last end, undefined where nothing did. */
  last(): Buffer | undefined {
    if (this.#partialLength === 0) return undefined;
    const line = this.#joined(NOTHING);
    this.#partialLength = 0;
    this.#partial = NOTHING;
    return withoutCR(line);
  }

  #joined(bytes: Buffer): Buffer {
    return Buffer.concat([this.#partial.subarray(0, this.#partialLength), bytes]);
  }

  #keep(bytes: Buffer): void {
    const length = this.#partialLength + bytes.length;
    if (length > this.#partial.length) this.#grow(length);
    bytes.copy(this.#partial, this.#partialLength);
    this.#partialLength = length;
  }

  /** By doubling, so that a line that comes byte by byte is not copied at every byte. */
  #grow(length: number): void {
    const size = Math.min(Math.max(length, 2 * this.#partial.length, 64), this.#maxBytes + 1);
    const grown = Buffer.allocUnsafeSlow(size);
    this.#partial.copy(grown, 0, 0, this.#partialLength);
    this.#partial = grown;
  }
}

function withoutCR(line: Buffer): Buffer {
  return line.at(-1) === CR ? line.subarray(0, -1) : line;
}
