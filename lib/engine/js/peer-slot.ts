// Seats of opened peers with long keys: whose record lies at the place in SLOT_BUFFER its two words tell, so
// that the text need not be hashed again. Twin of native/table/peer-slot.h: they are 64 bits of the 128 that the
// alias is made of, which nobody can bring to agree without the secret. A short key is looked up as it
// is, and needs no words.

import { HASH_AT, type Keys, MOST_UNITS } from '../../tables/keys.js';
import type { Table } from '../../tables/table.js';
import { SLOT_BUFFER } from '../engine.js';

const NOWHERE = -1;
const LOW = 1;
const HIGH = 2;

/**
 * What `keys` knows an opened peer by. A long key is hashed, O(length), unless SLOT_BUFFER leads to its
 * record in `table`; then SLOT_BUFFER leads there from now on, if it has one.
 */
export function resolveSlot(text: string, keys: Keys, table: Table): string {
  if (text.length <= MOST_UNITS) return text;
  const there = table.keyAt(SLOT_BUFFER[0] as number) as string | undefined;
  if (there !== undefined && isOf(there)) return there;
  const key = keys.find(text);
  SLOT_BUFFER[0] = table.find(key) ?? NOWHERE;
  SLOT_BUFFER[LOW] = word(key, HASH_AT);
  SLOT_BUFFER[HIGH] = word(key, HASH_AT + 4);
  return key;
}

/** Whether a key is an alias, and the one that the words are of. */
function isOf(key: string): boolean {
  return (
    key.length > MOST_UNITS &&
    SLOT_BUFFER[LOW] === word(key, HASH_AT) &&
    SLOT_BUFFER[HIGH] === word(key, HASH_AT + 4)
  );
}

/** Four bytes of an alias, which has one a unit. */
function word(alias: string, at: number): number {
  const byte = (i: number) => alias.charCodeAt(at + i) << (8 * i);
  return byte(0) | byte(1) | byte(2) | byte(3);
}
