// Splits a stream of bytes into lines. It keeps at most one byte more than the longest line, and it splits bytes, not
// text, so a character whose bytes arrive in several chunks stays whole.

const LF = 0x0a;
const CR = 0x0d;
const EMPTY = Buffer.alloc(0);

export class LineSplitter {
  readonly #maxBytes: number;
  /** The bytes that are not split yet. */
  #chunk: Buffer = EMPTY;
  /** The same bytes, preceded by the LF of the last line. */
  #chunkWithEnd: Buffer = EMPTY;
  /** Whether the next chunk begins with that LF. */
  #skipsLF = false;
  /** The beginning of an incomplete line. It is a copy, since a slice would keep the whole chunk in memory. */
  #partial: Buffer = EMPTY;
  #partialLength = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Adds a chunk. Before that, take all lines of the previous chunk with `next`, or its rest with `takeRest`. */
  push(chunk: Buffer): void {
    this.#chunk = this.#skipsLF ? chunk.subarray(1) : chunk;
    this.#skipsLF = false;
  }

  /**
   * Removes and returns the bytes that are not split yet; push them again later. With `withEnd` the result begins with
   * the LF of the last line, so that it is not empty. `push` skips this LF.
   */
  takeRest(withEnd: boolean): Buffer {
    const rest = withEnd ? this.#chunkWithEnd : this.#chunk;
    this.#skipsLF = withEnd;
    this.#chunk = EMPTY;
    return rest;
  }

  /** The beginning of an incomplete line. `skipsLF`: the stream begins with the LF of a line that was taken already. */
  partialLine(): { partial: Buffer; skipsLF: boolean } {
    const partial = this.#partial.subarray(0, this.#partialLength);
    return { partial, skipsLF: this.#skipsLF };
  }

  /**
   * Returns the next line without its line end (LF or CRLF); undefined if no line is complete. A line that is too long
   * may be returned before its end has arrived: do not call `next` after that.
   */
  next(): Buffer | undefined {
    const end = this.#chunk.indexOf(LF);
    const isWhole = end >= 0;
    const bytes = isWhole ? this.#chunk.subarray(0, end) : this.#chunk;
    this.#chunkWithEnd = isWhole ? this.#chunk.subarray(end) : EMPTY;
    this.#chunk = this.#chunkWithEnd.subarray(1);
    if (isWhole && this.#partialLength === 0) return withoutCR(bytes);
    // One more byte is allowed, since it may be the CR of the line end.
    if (this.#partialLength + bytes.length > this.#maxBytes + 1) return this.#joinPartial(bytes);
    this.#keep(bytes);
    return isWhole ? this.last() : undefined;
  }

  /** Returns the bytes after the last line end; undefined if there are none. */
  last(): Buffer | undefined {
    if (this.#partialLength === 0) return undefined;
    const line = this.#joinPartial(EMPTY);
    this.#partialLength = 0;
    this.#partial = EMPTY;
    return withoutCR(line);
  }

  #joinPartial(bytes: Buffer): Buffer {
    return Buffer.concat([this.#partial.subarray(0, this.#partialLength), bytes]);
  }

  #keep(bytes: Buffer): void {
    const length = this.#partialLength + bytes.length;
    if (length > this.#partial.length) this.#grow(length);
    bytes.copy(this.#partial, this.#partialLength);
    this.#partialLength = length;
  }

  /** Doubles the buffer, so that a line that arrives byte by byte is not copied at every byte. */
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
