// The slots of an opened peer in RULE_SLOTS: for each scope the place of its record, and for a long key two words that
// identify the peer, as in peer-slot.ts. Any content leads to the right record.

import { type Keys, MOST_UNITS, wordOfAlias } from '../../../tables/keys.js';
import { RULE_SLOTS, SLOT_WORDS } from '../../rules.js';
import { NONE, type ScopeState } from './scope.js';

// Indexes in a slot.
const PLACE = 0;
const LOW = 1;
const HIGH = 2;
/** Written for a peer without a record. */
const ANY_PLACE = 0;

/** Sets the scope's key and place for an opened peer, and updates its slot. */
export function lookUpSlot(scope: ScopeState, text: string, keys: Keys): void {
  const at = scope.index * SLOT_WORDS;
  const { records } = scope;
  const place = RULE_SLOTS[at + PLACE] as number;
  if (text.length <= MOST_UNITS) {
    scope.key = text;
    scope.place = place;
    if (records.isAt(place, text)) return;
    scope.lookUp(text);
    // The table stores the opened peer's own string, because V8 compares a string with itself in O(1).
    if (scope.place !== NONE) records.nameAt(scope.place, text);
  } else {
    const found = records.keyAt(place) as string | undefined;
    scope.place = place;
    if (found !== undefined && isInSlot(found, at)) {
      scope.key = found;
      return;
    }
    scope.lookUp(keys.find(text));
  }
  writeSlot(scope);
}

/** Writes the slot of the scope's current peer. */
export function writeSlot({ index, key, place }: ScopeState): void {
  const at = index * SLOT_WORDS;
  const isLong = key.length > MOST_UNITS;
  RULE_SLOTS[at + PLACE] = place === NONE ? ANY_PLACE : place;
  RULE_SLOTS[at + LOW] = isLong ? wordOfAlias(key, 0) : 0;
  RULE_SLOTS[at + HIGH] = isLong ? wordOfAlias(key, 1) : 0;
}

/** Whether a key is the alias from which the words in the slot were taken. */
function isInSlot(key: string, at: number): boolean {
  return (
    key.length > MOST_UNITS &&
    RULE_SLOTS[at + LOW] === wordOfAlias(key, 0) &&
    RULE_SLOTS[at + HIGH] === wordOfAlias(key, 1)
  );
}
