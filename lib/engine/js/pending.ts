// Pending records: what a snapshot restored by digest, without the key. Each waits here until its
// peer is checked again: then the key is hashed under the secret of each snapshot, and leads to it.
// Twin of native/limiters/pending.h.

import { digestOf } from '../../tables/siphash.js';
import type { Place, Table, Times } from '../../tables/table.js';
import type { DigestColumns } from '../columns.js';
import { type Pass, pass } from './sweep.js';

/** Secrets of snapshots that are kept at once; records under one more are not. */
export const MOST_SECRETS = 16;

/** Instead of a place: a record waits, and there is no room for its peer. */
export const NO_ROOM = -1;

interface Group<Records extends Table> {
  readonly secret: Uint32Array;
  readonly records: Records;
}

/** Where a record waits. */
export interface Pending<Records extends Table> {
  readonly records: Records;
  readonly place: Place;
}

export class PendingRecords<Records extends Table> {
  readonly #make: () => Records;
  /** At most MOST_SECRETS; one without records may become another secret's. */
  readonly #groups: Group<Records>[] = [];

  constructor(make: () => Records) {
    this.#make = make;
  }

  get size(): number {
    let size = 0;
    for (const { records } of this.#groups) size += records.size;
    return size;
  }

  get isEmpty(): boolean {
    return this.#groups.length === 0 || this.size === 0;
  }

  /** The records under a secret; undefined if there is no place for one more secret. */
  under(secret: Uint32Array): Records | undefined {
    const known = this.#groups.find(
      (group) => group.records.size > 0 && isSame(group.secret, secret),
    );
    if (known !== undefined) return known.records;
    const records = this.#make();
    const free = this.#groups.findIndex((group) => group.records.size === 0);
    if (free === -1 && this.#groups.length === MOST_SECRETS) return undefined;
    this.#groups[free === -1 ? this.#groups.length : free] = { secret, records };
    return records;
  }

  /** The record of a peer by its key's text, if one waits. O(length) for each secret. */
  find(text: string): Pending<Records> | undefined {
    for (const { secret, records } of this.#groups) {
      if (records.size === 0) continue;
      const place = records.find(nameOf(digestOf(text, secret)));
      if (place !== undefined) return { records, place };
    }
    return undefined;
  }

  /** Calls use(records, place) with the peer's record, if one waits, and takes it out. */
  take(text: string, use: (records: Records, place: Place) => void): void {
    if (this.isEmpty) return;
    const found = this.find(text);
    if (found === undefined) return;
    use(found.records, found.place);
    found.records.delete(found.records.keyAt(found.place));
  }

  forget(text: string): void {
    this.take(text, () => {});
  }

  /** The secrets, and the records under each. */
  groups(): readonly Group<Records>[] {
    return this.#groups;
  }

  /** Passes of a sweep, none or always as many: records for which useless(records, place) is true go. */
  passes(useless: (records: Records, place: Place) => boolean): Pass[] {
    if (this.isEmpty) return [];
    return Array.from({ length: MOST_SECRETS }, (_, i) => {
      const records = this.#groups[i]?.records ?? this.#make();
      // They are no peers, and do not count as removed.
      return pass(records, (key: string, place: Place) => {
        if (useless(records, place)) records.delete(key);
        return false;
      });
    });
  }

  clear(): void {
    // Whoever is at one of them finds nobody more.
    for (const { records } of this.#groups) records.clear();
    this.#groups.length = 0;
  }
}

/** What a table knows a digest by: two units for each of its four words. */
export function nameOf(words: ArrayLike<number>): string {
  const unit = (i: number) => ((words[i >> 1] as number) >>> (16 * (i & 1))) & 0xffff;
  return String.fromCharCode(
    unit(0),
    unit(1),
    unit(2),
    unit(3),
    unit(4),
    unit(5),
    unit(6),
    unit(7),
  );
}

/** The four words of such a name. */
export function wordsOf(name: string): number[] {
  const word = (i: number) => (name.charCodeAt(2 * i) | (name.charCodeAt(2 * i + 1) << 16)) >>> 0;
  return [word(0), word(1), word(2), word(3)];
}

function isSame(a: Uint32Array, b: Uint32Array): boolean {
  return a.every((word, i) => word === b[i]);
}

/** Calls use(name, the three numbers) for each peer of some columns. */
export function eachDigest(
  { digests, numbers }: DigestColumns,
  use: (name: string, idleSeconds: number, tokens: number, bucketIdleSeconds: number) => boolean,
): number {
  let restored = 0;
  for (let i = 0; i * 4 < digests.length; i += 1) {
    const [idle, tokens, bucketIdle] = numbers.subarray(i * 3, i * 3 + 3);
    const name = nameOf(digests.subarray(i * 4, i * 4 + 4));
    if (use(name, idle as number, tokens as number, bucketIdle as number)) restored += 1;
  }
  return restored;
}

/** Keeps an instant under a digest, of two the later one; false for a new one without room. */
export function restoreTime(records: Times, name: string, at: number, hasRoom: boolean): boolean {
  const place = records.find(name);
  if (place !== undefined) records.set(place, Math.max(records.at(place), at));
  else if (hasRoom) records.insert(name, at);
  return place !== undefined || hasRoom;
}
