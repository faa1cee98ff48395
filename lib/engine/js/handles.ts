// Handles of the TypeScript engine: the places where the buckets of an opened peer, or of a group's
// members, were found the last time. The table tells whose a place is, so that a handle need not
// hear of removals.

import type { Handle } from '../engine.js';
import type { Place } from './table.js';

// Nobody's in particular: the first check finds the right one.
const ANY_PLACE: Place = 0;

export abstract class PlaceHandles {
  openPeer(_key: string): Handle {
    return [ANY_PLACE] as unknown as Handle;
  }

  openGroup(): Handle {
    return [] as unknown as Handle;
  }

  addMember(group: Handle, _key: string): void {
    placesOf(group).push(ANY_PLACE);
  }

  /** The last one takes its place. */
  removeMember(group: Handle, index: number): void {
    const places = placesOf(group);
    const last = places.pop() as Place;
    if (index < places.length) places[index] = last;
  }
}

/** The places of an opened peer, which is one, or of a group's members in their order. */
export function placesOf(handle: Handle): Place[] {
  return handle as unknown as Place[];
}
