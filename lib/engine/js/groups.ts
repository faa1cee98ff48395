// Groups of the TypeScript engine: what the table knows their members by, and the places where their
// buckets were found the last time. The table tells whose a place is, so that a group need not hear of
// removals.

import { Keys } from '../../tables/keys.js';
import type { Place } from '../../tables/table.js';
import type { Handle } from '../engine.js';

/** Where some buckets were found the last time: those of a group's members, or SLOT_BUFFER. */
export type Places = Place[] | Int32Array;

// Nobody's in particular: the first check finds the right one.
const ANY_PLACE: Place = 0;

interface Members {
  readonly keys: string[];
  readonly places: Place[];
  /** The secret under which long keys were hashed. */
  secretVersion: number;
}

export abstract class Groups {
  protected readonly keys = new Keys();

  openGroup(): Handle {
    const members: Members = { keys: [], places: [], secretVersion: this.keys.secretVersion };
    return members as unknown as Handle;
  }

  addMember(group: Handle, key: string): void {
    const { keys, places } = membersOf(group);
    keys.push(this.keys.find(key));
    places.push(ANY_PLACE);
  }

  removeMember(group: Handle, index: number): void {
    const { keys, places } = membersOf(group);
    takeOut(keys, index);
    takeOut(places, index);
  }

  /** A group's members, whose keys are `texts`, in their order. */
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

/** The last one takes its place. */
function takeOut<T>(all: T[], index: number): void {
  const last = all.pop() as T;
  if (index < all.length) all[index] = last;
}
