// The slot of an opened peer with a long key: the place of its record, and two words that identify the peer, so that
// the key need not be hashed again. Counterpart of native/table/peer-slot.h: the words are 64 of the 128 bits in the
// alias, and without the secret nobody can cause two aliases to agree in them. A short key is looked up as it is, and
// needs no words.

import { type Keys, MOST_UNITS, wordOfAlias } from '../../tables/keys.js';
import type { Table } from '../../tables/table.js';
import { SLOT_BUFFER } from '../engine.js';

const NOWHERE = -1;
// Indexes in SLOT_BUFFER.
const PLACE = 0;
const LOW = 1;
const HIGH = 2;

/**
 * The key by which a table knows an opened peer. A long key is hashed, O(length), unless SLOT_BUFFER holds the place
 * of its record in `table`. After hashing, SLOT_BUFFER holds that place, or NOWHERE if there is no record.
 */
export function resolveSlot(text: string, keys: Keys, table: Table): string {
  if (text.length <= MOST_UNITS) return text;
  const found = table.keyAt(SLOT_BUFFER[PLACE] as number) as string | undefined;
  if (found !== undefined && isInSlot(found)) return found;
  const key = keys.find(text);
  SLOT_BUFFER[PLACE] = table.find(key) ?? NOWHERE;
  SLOT_BUFFER[LOW] = wordOfAlias(key, 0);
  SLOT_BUFFER[HIGH] = wordOfAlias(key, 1);
  return key;
}

/** Whether a key is the alias from which the words in SLOT_BUFFER were taken. */
function isInSlot(key: string): boolean {
  return (
    key.length > MOST_UNITS &&
    SLOT_BUFFER[LOW] === wordOfAlias(key, 0) &&
    SLOT_BUFFER[HIGH] === wordOfAlias(key, 1)
  );
}
