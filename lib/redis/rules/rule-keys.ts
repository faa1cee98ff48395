// Parts of the names of the store's keys, and of peers in bans and reports.

import { escapeName, isName } from '../store/keys.js';

/** A name of a scope or a rule within a key: without what separates it from the rest. */
export function part(name: string): string {
  return escapeName(name).replaceAll(':', '%003a');
}

/** The last part of the store's keys: a key of a scope, or its digest. */
export function keyPart(id: string): string {
  return isName(id) ? escapeName(id) : id;
}
