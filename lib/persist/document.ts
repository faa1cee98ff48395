// A snapshot as the text of a file, and back, in slices: all of it or an error. Knows no file names.
//
// The text is one JSON document with a line for each slice. Every byte is accounted for: the checksum is
// of all that comes before its own line, and what follows can only be what it is, or an overwriting of the file that
// was not finished (in-place.ts).

import { createHash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { damaged } from './damaged.js';
import { readDocument1 } from './document-1.js';
import { type Extent, findDocument, SEPARATOR } from './in-place.js';
import type { Saved } from './saved.js';
import { takeTurns } from './turns.js';

const HEAD = '{\n"format": 2,\n"slices": [\n';
const BETWEEN = ',\n';
const BEFORE_CHECKSUM = '\n],\n"sha256": "';
const END = '"\n}\n';
/** What follows the slices, its last line with an end of its own. */
const TAIL = /^\],\n"sha256": "([0-9a-f]{64})"\n\}\n\n$/;
const TAIL_BEGIN = Buffer.from('],');
const MOST_TAIL = 100;

/** Text that is written in one call. */
const MOST_WRITTEN = 2 ** 18;
/** What is read in one call. */
const MOST_READ = 2 ** 18;

/** The document in parts. Between two slices everybody else has their turn. */
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
  for await (const slice of takeTurns(slices)) {
    if (slice === undefined) continue;
    const { savedAt, snapshot } = slice;
    text += `${separator}{"savedAt":${savedAt},"snapshot":${JSON.stringify(snapshot)}}`;
    separator = BETWEEN;
    if (text.length >= MOST_WRITTEN) yield part();
  }
  yield part();
  yield Buffer.from(BEFORE_CHECKSUM + hash.digest('hex') + END);
}

/**
 * The slices of an open file, of either format. Only at the end is it known that they are what was written.
 * @throws `ERR_LIMITER_SNAPSHOT` for whatever `writeDocument` has not written.
 */
export async function* readDocument(file: FileHandle, name: string): AsyncGenerator<Saved> {
  const extent = await findDocument(file);
  if ((await textAt(file, extent.at, HEAD.length)) !== HEAD) {
    yield readDocument1(await bytesOf(file, extent), name);
    return;
  }
  const hash = createHash('sha256').update(HEAD);
  let separator = '';
  let tail = '';
  for await (const line of lines(chunks(file, extent, HEAD.length))) {
    if (tail !== '' || line.equals(TAIL_BEGIN)) {
      tail += `${line}\n`;
      if (tail.length > MOST_TAIL) break;
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

/** What lies in an extent of a file, without so many bytes at its beginning, up to a separator. */
async function* chunks(
  file: FileHandle,
  { at, length }: Extent,
  skipped: number,
): AsyncGenerator<Buffer> {
  for (let done = skipped; done < length; ) {
    const most = Math.min(MOST_READ, length - done);
    const { buffer, bytesRead } = await file.read(Buffer.allocUnsafe(most), 0, most, at + done);
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

/** The lines of a text; the last one is what follows the last end of a line. */
async function* lines(text: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let parts: Buffer[] = [];
  const line = () => {
    const bytes = Buffer.concat(parts);
    parts = [];
    return bytes;
  };
  for await (const chunk of text) {
    let first = 0;
    for (let at = chunk.indexOf('\n'); at !== -1; at = chunk.indexOf('\n', first)) {
      parts.push(chunk.subarray(first, at));
      yield line();
      first = at + 1;
    }
    parts.push(chunk.subarray(first));
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
  throw damaged(name, 'a slice holds no snapshot');
}
