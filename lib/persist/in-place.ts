// Overwrites a file whose name cannot be given to another: a mount point, or one in a folder that is not ours to
// write. Guarantees that at any moment, whenever the process is killed, a whole document can be read from it: the
// old one or the new one.
//
// The new content is first appended, behind a byte that no document has; then it is copied to the front, and
// last the file is cut. Until its copy is complete the old content is untouched, and from then on a footer
// says where the new one is. Each step is on the disk before the next begins.

import { type FileHandle, open } from 'node:fs/promises';

/** RFC 7464 begins a text in a sequence with it; JSON has none. What is behind the first is not the document yet. */
export const SEPARATOR = 0x1e;
const MARK = Buffer.of(SEPARATOR);
const MOST_COPIED = 2 ** 18;

/** Where a document lies in a file. */
export interface Extent {
  readonly at: number;
  readonly length: number;
}

const digits = (value: number) => String(value).padStart(16, '0');
const footerOf = ({ at, length }: Extent) =>
  `\x1e{"at":${digits(at)},"length":${digits(length)}}\n`;
const FOOTER_BYTES = footerOf({ at: 0, length: 0 }).length;
const FOOTER = /^\{"at":(\d{16}),"length":(\d{16})\}\n$/;

/** The document's place in an open file: at its end, where an overwriting was not finished. */
export async function findDocument(file: FileHandle): Promise<Extent> {
  const { size } = await file.stat();
  const begin = Math.max(0, size - FOOTER_BYTES);
  const { buffer } = await file.read(Buffer.alloc(FOOTER_BYTES), 0, FOOTER_BYTES, begin);
  const [, at, length] = FOOTER.exec(buffer.toString('latin1', MARK.length)) ?? [];
  const isUnfinished = buffer[0] === SEPARATOR && at !== undefined;
  return isUnfinished ? { at: Number(at), length: Number(length) } : { at: 0, length: size };
}

/** Writes all of `content` over a file. If it fails before its copy is complete, the file is what it was. */
export async function overwriteFile(
  path: string,
  content: AsyncIterable<Uint8Array>,
): Promise<void> {
  const file = await open(path, 'r+');
  try {
    const unfinished = await findDocument(file);
    if (unfinished.at > 0) await moveToFront(file, unfinished);
    await moveToFront(file, await append(file, content));
  } finally {
    await file.close();
  }
}

async function append(file: FileHandle, content: AsyncIterable<Uint8Array>): Promise<Extent> {
  const { size } = await file.stat();
  try {
    await write(file, MARK, size);
    const at = size + MARK.length;
    let end = at;
    for await (const part of content) {
      await write(file, part, end);
      end += part.length;
    }
    let copy = { at, length: end - at };
    // Farther from the front than it is long, or it would overwrite itself on its way there.
    if (copy.at < copy.length) {
      await copyTo(file, copy, end);
      copy = { at: end, length: copy.length };
    }
    await file.sync();
    await write(file, Buffer.from(footerOf(copy)), copy.at + copy.length);
    await file.sync();
    return copy;
  } catch (error) {
    await file.truncate(size);
    throw error;
  }
}

async function moveToFront(file: FileHandle, copy: Extent): Promise<void> {
  await copyTo(file, copy, 0);
  await file.sync();
  await file.truncate(copy.length);
  await file.sync();
}

async function copyTo(file: FileHandle, { at, length }: Extent, to: number): Promise<void> {
  const buffer = Buffer.allocUnsafe(MOST_COPIED);
  for (let done = 0; done < length; ) {
    const most = Math.min(MOST_COPIED, length - done);
    const { bytesRead } = await file.read(buffer, 0, most, at + done);
    if (bytesRead === 0) throw new Error('the copy of a document is shorter than it was');
    await write(file, buffer.subarray(0, bytesRead), to + done);
    done += bytesRead;
  }
}

async function write(file: FileHandle, bytes: Uint8Array, at: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    done += (await file.write(bytes, done, bytes.length - done, at + done)).bytesWritten;
  }
}
