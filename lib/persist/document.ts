// Writes and reads file format 2, slice by slice. A document is read completely or with an error.
//
// The text is one JSON document with one line per slice. The checksum covers everything before its own line, and the
// rest of the text is fixed, so any changed byte is detected. After the document there may be an unfinished overwrite
// of the file (in-place.ts).

import { createHash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { damaged } from './damaged.js';
import { readDocument1 } from './document-1.js';
import { type Extent, findDocument, SEPARATOR } from './in-place.js';
import type { Saved } from './saved.js';
import { yieldBetween } from './yield-between.js';

const HEAD = '{\n"format": 2,\n"slices": [\n';
const BETWEEN = ',\n';
const BEFORE_CHECKSUM = '\n],\n"sha256": "';
const END = '"\n}\n';
/** The text after the slices, with a line feed added to its last line. */
const TAIL = /^\],\n"sha256": "([0-9a-f]{64})"\n\}\n\n$/;
const TAIL_START = Buffer.from('],');
const MAX_TAIL_UNITS = 100;

/** Code units of text after which a part is written, so that a write has a useful size. */
const PART_UNITS = 2 ** 18;
/** The size of one read. */
const READ_BYTES = 2 ** 18;

/** Yields the document in parts. The event loop runs between two slices. */
export async function* writeDocument(
  slices: Iterable<Saved | undefined>,
): AsyncGenerator<Uint8Array> {
  const hash = createHash('sha256');
  let text = HEAD;
  let separator = '';
  const part = () => {
    const bytes = Buffer.from(text);
    hash.update(bytes);
    text = '';
    return bytes;
  };
  for await (const slice of yieldBetween(slices)) {
    if (slice === undefined) continue;
    const { savedAt, snapshot } = slice;
    text += `${separator}{"savedAt":${savedAt},"snapshot":${JSON.stringify(snapshot)}}`;
    separator = BETWEEN;
    if (text.length >= PART_UNITS) yield part();
  }
  yield part();
  yield Buffer.from(BEFORE_CHECKSUM + hash.digest('hex') + END);
}

/**
 * Whether an open file contains a document, complete or damaged. If the first save into an empty file is killed, the
 * document at the front is empty: after the first separator there is only the beginning of the document that was being
 * appended. Any other text there is damage.
 */
export async function hasDocument(file: FileHandle): Promise<boolean> {
  const { start } = await findDocument(file);
  const [front, appended = ''] = (await textAt(file, start, HEAD.length + 1)).split('\x1e');
  return front !== '' || !HEAD.startsWith(appended);
}

/**
 * Yields the slices of an open file with a document, of either format. They are verified only at the end: if the checksum does not
 * match, the generator throws after the last slice.
 * @throws `ERR_LIMITER_SNAPSHOT` for a document that is not complete.
 */
export async function* readDocument(file: FileHandle, name: string): AsyncGenerator<Saved> {
  const extent = await findDocument(file);
  if ((await textAt(file, extent.start, HEAD.length)) !== HEAD) {
    yield readDocument1(await bytesOf(file, extent), name);
    return;
  }
  const hash = createHash('sha256').update(HEAD);
  let separator = '';
  let tail = '';
  for await (const line of lines(chunks(file, extent, HEAD.length))) {
    if (tail !== '' || line.equals(TAIL_START)) {
      tail += `${line}\n`;
      if (tail.length > MAX_TAIL_UNITS) break;
    } else {
      hash.update(separator).update(line);
      separator = '\n';
      yield parse(line, name);
    }
  }
  const sum = TAIL.exec(tail)?.[1];
  if (sum === undefined) throw damaged(name, 'missing end');
  if (hash.digest('hex') !== sum) throw damaged(name, 'checksum mismatch');
}

async function textAt(file: FileHandle, position: number, length: number): Promise<string> {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, position);
  return buffer.toString('latin1', 0, bytesRead);
}

async function bytesOf(file: FileHandle, extent: Extent): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const chunk of chunks(file, extent, 0)) parts.push(chunk);
  return Buffer.concat(parts);
}

/** Yields the bytes of an extent after the first `skipped` ones, up to a separator. */
async function* chunks(
  file: FileHandle,
  { start, length }: Extent,
  skipped: number,
): AsyncGenerator<Buffer> {
  for (let done = skipped; done < length; ) {
    const size = Math.min(READ_BYTES, length - done);
    const { buffer, bytesRead } = await file.read(Buffer.allocUnsafe(size), 0, size, start + done);
    if (bytesRead === 0) return;
    done += bytesRead;
    const chunk = buffer.subarray(0, bytesRead);
    const end = chunk.indexOf(SEPARATOR);
    if (end !== -1) {
      yield chunk.subarray(0, end);
      return;
    }
    yield chunk;
  }
}

/** Yields the lines of a text without their line feeds, and last the text after the last line feed. */
async function* lines(text: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let parts: Buffer[] = [];
  const line = () => {
    const bytes = Buffer.concat(parts);
    parts = [];
    return bytes;
  };
  for await (const chunk of text) {
    let start = 0;
    for (let end = chunk.indexOf('\n'); end !== -1; end = chunk.indexOf('\n', start)) {
      parts.push(chunk.subarray(start, end));
      yield line();
      start = end + 1;
    }
    parts.push(chunk.subarray(start));
  }
  yield line();
}

function parse(line: Buffer, name: string): Saved {
  try {
    const text = line.toString();
    const { savedAt, snapshot } = JSON.parse(text.endsWith(',') ? text.slice(0, -1) : text);
    if (Number.isSafeInteger(savedAt) && typeof snapshot === 'object' && snapshot !== null) {
      return { savedAt, snapshot };
    }
  } catch (cause) {
    throw damaged(name, 'invalid JSON', cause);
  }
  throw damaged(name, 'a slice has no snapshot or no time');
}
