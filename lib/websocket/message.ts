// The length of a message in bytes, on any platform.

import type { SocketData } from './types.js';

/** The cost in bytes: at least 1, since empty messages cost work too. */
export function bytesOf(data: SocketData): number {
  if (typeof data === 'string') return Math.max(1, utf8Length(data));
  return Math.max(1, 'size' in data ? data.size : data.byteLength);
}

const { Buffer } = globalThis as { Buffer?: { byteLength(text: string): number } };

/** Bytes of the text in UTF-8, as it was received. */
export function utf8Length(text: string, byteLength = Buffer?.byteLength): number {
  if (byteLength !== undefined) return byteLength(text);
  let bytes = text.length;
  for (let i = 0; i < text.length; i += 1) {
    const unit = text.charCodeAt(i);
    if (unit >= 0x80) bytes += 1;
    // The two halves of a surrogate pair are four bytes together.
    if (unit >= 0x800 && (unit < 0xd800 || unit > 0xdfff)) bytes += 1;
  }
  return bytes;
}
