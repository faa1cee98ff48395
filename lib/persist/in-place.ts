// Overwrites a file that cannot be replaced by a rename: a mount point, or a file in a folder that this process must
// not write to. If the process is killed at any moment, a complete document can be read from the file: the old one or
// the new one. An empty file counts as an old document, which is empty.
//
// The new content is first appended, after a byte that no document contains. Then it is copied to the front, and last
// the file is truncated. Until the appended content is complete, the old content is unchanged; after that, a footer
// says where the new content is. Each step is synced to the disk before the next step begins.

import { type FileHandle, open } from 'node:fs/promises';

/**
 * The record separator of RFC 7464, a byte that JSON text cannot contain. Bytes after the first separator are not part
 * of the document at the front.
 */
export const SEPARATOR = 0x1e;
const SEPARATOR_BYTES = Buffer.of(SEPARATOR);
const COPY_BYTES = 2 ** 18;

/** The position of a document in a file, in bytes. */
export interface Extent {
  readonly start: number;
  readonly length: number;
}

const digits = (value: number) => String(value).padStart(16, '0');
const footerOf = ({ start, length }: Extent) =>
  `\x1e{"at":${digits(start)},"length":${digits(length)}}\n`;
const FOOTER_BYTES = footerOf({ start: 0, length: 0 }).length;
const FOOTER = /^\{"at":(\d{16}),"length":(\d{16})\}\n$/;

/** Finds the document in an open file: at the front, or near the end if an overwrite was interrupted. */
export async function findDocument(file: FileHandle): Promise<Extent> {
  const { size } = await file.stat();
  const position = Math.max(0, size - FOOTER_BYTES);
  const { buffer } = await file.read(Buffer.alloc(FOOTER_BYTES), 0, FOOTER_BYTES, position);
  const [, start, length] = FOOTER.exec(buffer.toString('latin1', SEPARATOR_BYTES.length)) ?? [];
  const isUnfinished = buffer[0] === SEPARATOR && start !== undefined;
  return isUnfinished
    ? { start: Number(start), length: Number(length) }
    : { start: 0, length: size };
}

/** Overwrites a file with `content`. If `content` or its append fails, the file is unchanged. */
export async function overwriteFile(
  path: string,
  content: AsyncIterable<Uint8Array>,
): Promise<void> {
  const file = await open(path, 'r+');
  try {
    const unfinished = await findDocument(file);
    if (unfinished.start > 0) await moveToFront(file, unfinished);
    await moveToFront(file, await append(file, content));
  } finally {
    await file.close();
  }
}

async function append(file: FileHandle, content: AsyncIterable<Uint8Array>): Promise<Extent> {
  const { size } = await file.stat();
  try {
    await writeAt(file, SEPARATOR_BYTES, size);
    const start = size + SEPARATOR_BYTES.length;
    let end = start;
    for await (const part of content) {
      await writeAt(file, part, end);
      end += part.length;
    }
    let copy = { start, length: end - start };
    // The distance to the front must be at least the length, or the copy to the front would overwrite its source.
    if (copy.start < copy.length) {
      await copyTo(file, copy, end);
      copy = { start: end, length: copy.length };
    }
    await file.sync();
    await writeAt(file, Buffer.from(footerOf(copy)), copy.start + copy.length);
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

async function copyTo(file: FileHandle, { start, length }: Extent, to: number): Promise<void> {
  const buffer = Buffer.allocUnsafe(COPY_BYTES);
  for (let done = 0; done < length; ) {
    const size = Math.min(COPY_BYTES, length - done);
    const { bytesRead } = await file.read(buffer, 0, size, start + done);
    if (bytesRead === 0) {
      throw new Error('a snapshot file must not change during a save, got a shorter one');
    }
    await writeAt(file, buffer.subarray(0, bytesRead), to + done);
    done += bytesRead;
  }
}

/** Writes all bytes at a position: one call of `file.write` may write only a part. */
async function writeAt(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    done += (await file.write(bytes, done, bytes.length - done, position + done)).bytesWritten;
  }
}
