// Groups of the TypeScript engine: the places where their members' buckets were found the last time.
// The table tells whose a place is, so that a group need not hear of removals.

import type { Handle } from '../engine.js';
import type { Place } from './table.js';

/** Where some buckets were found the last time: those of a group's members, or SEAT. */
export type Places = Place[] | Int32Array;

// Nobody's in particular: the first check finds the right one.
const ANY_PLACE: Place = 0;

export abstract class Groups {
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

/** The places of a group's members, in their order. */
export function placesOf(handle: Handle): Place[] {
  return handle as unknown as Place[];
}
