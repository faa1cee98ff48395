// SipHash of a string with a result of 128 bits; each 64-bit word is two halves of 32 bits. `digestOf` returns the same
// words as the fingerprint of native/table/fingerprint.h.
//
// Aumasson and Bernstein, "SipHash: a fast short-input PRF" (2012). 1 round per word and 3 at the end are enough for
// hash tables; the published test vectors are for 2 and 4.

/** The state v0 to v3, low halves first. Each call overwrites it. */
const v = new Int32Array(8);
const V0 = 0;
const V1 = 2;
const V2 = 4;
const V3 = 6;

/** Constants of the initial state: as published, and for texts that are hashed as one byte per unit. */
const WIDE = 0xee;
const NARROW = 0xed;

export type Words = readonly [number, number, number, number];

/**
 * The digest of a key, as snapshots store it: four words of 32 bits, low words first, never all 0. If all units
 * of the key fit into a byte, it is hashed as one byte per unit. O(length).
 */
export function digestOf(text: string, secret: Uint32Array): Words {
  const words = isNarrow(text) ? sipHashNarrow(text, secret) : sipHash128(text, secret);
  return (words[0] | words[1] | words[2] | words[3]) === 0 ? [1, 0, 0, 0] : words;
}

function isNarrow(text: string): boolean {
  for (let i = 0; i < text.length; i += 1) if (text.charCodeAt(i) > 0xff) return false;
  return true;
}

function sipHashNarrow(text: string, secret: Uint32Array): Words {
  start(secret, NARROW);
  const { length } = text;
  const end = length - (length % 8);
  for (let i = 0; i < end; i += 8) addWord(bytesAt(text, i), bytesAt(text, i + 4), 1);
  addWord(bytesAt(text, end), bytesAt(text, end + 4) | (length << 24), 1);
  return finish(3);
}

/** Four units of one byte each, with zeros behind the end of the text. */
function bytesAt(text: string, i: number): number {
  const pair = text.charCodeAt(i) | (text.charCodeAt(i + 1) << 8);
  return pair | (text.charCodeAt(i + 2) << 16) | (text.charCodeAt(i + 3) << 24);
}

/**
 * The hash of a text's UTF-16 code units, little-endian, with a secret of four words: four words, low words
 * first. O(length).
 */
export function sipHash128(
  text: string,
  secret: Uint32Array,
  wordRounds = 1,
  finalRounds = 3,
): Words {
  addText(text, secret, wordRounds);
  return finish(finalRounds);
}

/** The first 53 bits of such a hash, as an integer: in two thirds of the time, and it creates no array. */
export function sipHash53(text: string, secret: Uint32Array): number {
  addText(text, secret, 1);
  v[V2] = (v[V2] as number) ^ 0xee;
  rounds(3);
  return folded(0) + (folded(1) & 0x1fffff) * 2 ** 32;
}

function addText(text: string, secret: Uint32Array, wordRounds: number): void {
  start(secret, WIDE);
  const { length } = text;
  const end = length - (length % 4);
  for (let i = 0; i < end; i += 4) addWord(pairAt(text, i), pairAt(text, i + 2), wordRounds);
  // The last word: the remaining units, and in its highest byte the number of bytes.
  const low = end < length ? pairAt(text, end) : 0;
  const high = end + 2 < length ? text.charCodeAt(end + 2) : 0;
  addWord(low, high | (length << 25), wordRounds);
}

/** Finalizes the hash, after the last word, which has the number of bytes in its highest byte. */
function finish(finalRounds: number): Words {
  v[V2] = (v[V2] as number) ^ 0xee;
  rounds(finalRounds);
  const first = folded(0);
  const second = folded(1);
  v[V1] = (v[V1] as number) ^ 0xdd;
  rounds(finalRounds);
  return [first, second, folded(0), folded(1)];
}

function start(secret: Uint32Array, form: number): void {
  const [a = 0, b = 0, c = 0, d = 0] = secret;
  v[V0] = a ^ 0x70736575;
  v[V0 + 1] = b ^ 0x736f6d65;
  v[V1] = c ^ 0x6e646f6d ^ form;
  v[V1 + 1] = d ^ 0x646f7261;
  v[V2] = a ^ 0x6e657261;
  v[V2 + 1] = b ^ 0x6c796765;
  v[V3] = c ^ 0x79746573;
  v[V3 + 1] = d ^ 0x74656462;
}

/** Two units as half a word, with zeros behind the end of the text. */
function pairAt(text: string, i: number): number {
  return text.charCodeAt(i) | (text.charCodeAt(i + 1) << 16);
}

function addWord(low: number, high: number, times: number): void {
  v[V3] = (v[V3] as number) ^ low;
  v[V3 + 1] = (v[V3 + 1] as number) ^ high;
  rounds(times);
  v[V0] = (v[V0] as number) ^ low;
  v[V0 + 1] = (v[V0 + 1] as number) ^ high;
}

/**
 * The low halves of v0 to v3 are a to d, the high halves are A to D. They are local variables because
 * working in the array takes twice as long. A sum of low halves that is below one of them has a carry.
 */
function rounds(times: number): void {
  let a = v[0] as number;
  let A = v[1] as number;
  let b = v[2] as number;
  let B = v[3] as number;
  let c = v[4] as number;
  let C = v[5] as number;
  let d = v[6] as number;
  let D = v[7] as number;
  let t = 0;
  for (let n = 0; n < times; n += 1) {
    // v0 += v1; v1 = v1 <<< 13 ^ v0; v0 <<<= 32
    a = (a + b) | 0;
    A = (A + B + (a >>> 0 < b >>> 0 ? 1 : 0)) | 0;
    t = ((b << 13) | (B >>> 19)) ^ a;
    B = ((B << 13) | (b >>> 19)) ^ A;
    b = t;
    t = a;
    a = A;
    A = t;
    // v2 += v3; v3 = v3 <<< 16 ^ v2
    c = (c + d) | 0;
    C = (C + D + (c >>> 0 < d >>> 0 ? 1 : 0)) | 0;
    t = ((d << 16) | (D >>> 16)) ^ c;
    D = ((D << 16) | (d >>> 16)) ^ C;
    d = t;
    // v2 += v1; v1 = v1 <<< 17 ^ v2; v2 <<<= 32
    c = (c + b) | 0;
    C = (C + B + (c >>> 0 < b >>> 0 ? 1 : 0)) | 0;
    t = ((b << 17) | (B >>> 15)) ^ c;
    B = ((B << 17) | (b >>> 15)) ^ C;
    b = t;
    t = c;
    c = C;
    C = t;
    // v0 += v3; v3 = v3 <<< 21 ^ v0
    a = (a + d) | 0;
    A = (A + D + (a >>> 0 < d >>> 0 ? 1 : 0)) | 0;
    t = ((d << 21) | (D >>> 11)) ^ a;
    D = ((D << 21) | (d >>> 11)) ^ A;
    d = t;
  }
  v[0] = a;
  v[1] = A;
  v[2] = b;
  v[3] = B;
  v[4] = c;
  v[5] = C;
  v[6] = d;
  v[7] = D;
}

function folded(half: 0 | 1): number {
  const low = (v[V0 + half] as number) ^ (v[V1 + half] as number);
  return (low ^ (v[V2 + half] as number) ^ (v[V3 + half] as number)) >>> 0;
}
