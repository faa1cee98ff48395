// Copies of strings. A JavaScript engine may store the result of slice(), split() or a pattern as a reference into the
// original string, so that keeping the piece keeps the whole original in memory. A copy holds only its own units.

const PIECE = 128;

/**
 * An array for each length up to PIECE, created when first needed: about 64 KiB in total. Plain arrays, because apply()
 * takes twice as long with a typed array.
 */
const units: number[][] = [];

/** Returns a copy that does not keep another string in memory. O(length). */
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
