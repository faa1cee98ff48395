// A snapshot as the text of a file, and back, in slices: all of it or an error. Knows no file names.
//
// The text is one JSON document with a line for each slice. Every byte is accounted for: the checksum is
// of all that comes before its own line, and what follows can only be what it is.

import { createHash, type Hash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { damaged } from './damaged.js';
import { readDocument1 } from './document-1.js';
import type { Saved } from './saved.js';
import { takeTurns } from './turns.js';

const HEAD = '{\n"format": 2,\n"slices": [\n';
const BETWEEN = ',\n';
const BEFORE_CHECKSUM = '\n],\n"sha256": "';
const END = '"\n}\n';
const TAIL = new RegExp(`^${BEFORE_CHECKSUM.replace('[', '\\[')}([0-9a-f]{64})${END}$`);
const TAIL_BYTES = BEFORE_CHECKSUM.length + 64 + END.length;

/** Text that is written in one call. */
const MOST_WRITTEN = 2 ** 18;
/** What is read in one call. */
const MOST_READ = 2 ** 18;
/** The document in parts. Between two slices everybody else has their turn. */
export async function* writeDocument(slices: Iterable<Saved>): AsyncGenerator<Uint8Array> {
  const hash = createHash('sha256');
  let text = HEAD;
  let separator = '';
  const part = () => {
    const bytes = Buffer.from(text);
    hash.update(bytes);
    text = '';
    return bytes;
  };
  for await (const { savedAt, snapshot } of takeTurns(slices)) {
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
  const { size } = await file.stat();
  const begin = await textAt(file, 0, HEAD.length);
  if (begin !== HEAD) {
    yield readDocument1(await file.readFile(), name);
    return;
  }
  const end = size - TAIL_BYTES;
  const sum = TAIL.exec(await textAt(file, end, TAIL_BYTES))?.[1];
  if (sum === undefined) throw damaged(name, 'missing end');
  const hash = createHash('sha256').update(HEAD);
  for await (const line of lines(chunks(file, HEAD.length, end, hash))) yield parse(line, name);
  if (hash.digest('hex') !== sum) throw damaged(name, 'checksum mismatch');
}

async function textAt(file: FileHandle, position: number, length: number): Promise<string> {
  if (position < 0) return '';
  const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, position);
  return buffer.toString('latin1', 0, bytesRead);
}

/** What lies between two places of a file, of which a hash is updated. */
async function* chunks(
  file: FileHandle,
  begin: number,
  end: number,
  hash: Hash,
): AsyncGenerator<Buffer> {
  for (let at = begin; at < end; ) {
    const length = Math.min(MOST_READ, end - at);
    const { buffer, bytesRead } = await file.read(Buffer.allocUnsafe(length), 0, length, at);
    if (bytesRead === 0) return;
    at += bytesRead;
    const chunk = buffer.subarray(0, bytesRead);
    hash.update(chunk);
    yield chunk;
  }
}

/** The lines of a text, without the commas that end them. */
async function* lines(text: AsyncIterable<Buffer>): AsyncGenerator<string> {
  let parts: Buffer[] = [];
  const line = () => {
    const text = Buffer.concat(parts).toString();
    parts = [];
    return text.endsWith(',') ? text.slice(0, -1) : text;
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
  const last = line();
  if (last !== '') yield last;
}

function parse(line: string, name: string): Saved {
  try {
    const { savedAt, snapshot } = JSON.parse(line);
    if (Number.isSafeInteger(savedAt) && typeof snapshot === 'object' && snapshot !== null) {
      return { savedAt, snapshot };
    }
  } catch (cause) {
    throw damaged(name, 'invalid JSON', cause);
  }
  throw damaged(name, 'a slice holds no snapshot');
}
