// GroupLimiter adds groups to a limiter with buckets: for each member the key by which the table knows it, and the
// place of its bucket at the last check. The table says which peer a place belongs to, so a group need not learn of
// removals.

import type { Place } from '../../tables/table.js';
import type { Handle } from '../engine.js';
import { JsLimiter } from './limiter.js';

/** The last known places of some buckets: those of a group's members, or SLOT_BUFFER. */
export type Places = Place[] | Int32Array;

// Any place is right for a new member: the first check finds the correct one.
const INITIAL_PLACE: Place = 0;

interface Members {
  readonly keys: string[];
  readonly places: Place[];
  /** The version of the secret with which long keys were hashed. */
  secretVersion: number;
}

export abstract class GroupLimiter extends JsLimiter {
  openGroup(): Handle {
    const members: Members = { keys: [], places: [], secretVersion: this.keys.secretVersion };
    return members as unknown as Handle;
  }

  addMember(group: Handle, key: string): void {
    const { keys, places } = membersOf(group);
    keys.push(this.keys.find(key));
    places.push(INITIAL_PLACE);
  }

  removeMember(group: Handle, index: number): void {
    const { keys, places } = membersOf(group);
    removeAt(keys, index);
    removeAt(places, index);
  }

  /** The members of a group. `texts` are their keys as the user gave them, in the same order. */
  protected currentMembers(group: Handle, texts: readonly string[]): Members {
    const members = membersOf(group);
    const { secretVersion } = this.keys;
    if (members.secretVersion !== secretVersion) {
      for (const [i, text] of texts.entries()) members.keys[i] = this.keys.find(text);
      members.secretVersion = secretVersion;
    }
    return members;
  }
}

function membersOf(handle: Handle): Members {
  return handle as unknown as Members;
}

/** Moves the last element to the removed one's index. */
function removeAt<T>(all: T[], index: number): void {
  const last = all.pop() as T;
  if (index < all.length) all[index] = last;
}
