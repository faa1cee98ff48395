// Copies of strings. An engine may keep a string that was cut out of another one by slice(), split()
// or a pattern as a place in that one: whoever keeps the piece keeps the whole message it came from.
// A copy holds its own units alone.

const PIECE = 128;

/**
 * An array for each length up to PIECE, made when first needed: some 64 KiB in all. apply() takes the
 * units of one as they lie, which of a typed array takes twice as long.
 */
const units: number[][] = [];

/** The same text, as a string of its own. O(length). */
export function detachString(text: string): string {
  if (text.length <= PIECE) return detachPiece(text, 0, text.length);
  let copy = '';
  for (let at = 0; at < text.length; at += PIECE) {
    copy += detachPiece(text, at, Math.min(PIECE, text.length - at));
  }
  return copy;
}

function detachPiece(text: string, at: number, length: number): string {
  units[length] ??= new Array(length).fill(0);
  const piece = units[length];
  for (let i = 0; i < length; i += 1) piece[i] = text.charCodeAt(at + i);
  return String.fromCharCode.apply(null, piece);
}
