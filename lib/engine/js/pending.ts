// PendingRecords stores the records that a snapshot restored by digest, without a key. A record is pending until its
// peer is checked again and the digest of the peer's key finds it. The key is hashed once for each snapshot's secret.
// Counterpart of native/limiters/pending.h.

import { digestOf } from '../../tables/siphash.js';
import type { Place, Table, Times } from '../../tables/table.js';
import type { DigestColumns } from '../columns.js';
import type { Pass } from './sweep.js';

/** The maximum number of snapshots' secrets at a time. Records under another secret are refused. */
export const MOST_SECRETS = 16;

/** Stands for a place: the peer has a pending record, but no peer may be evicted for it. */
export const NO_ROOM = -1;

interface SecretRecords<Records extends Table> {
  readonly secret: Uint32Array;
  readonly records: Records;
}

/** A record and the table that holds it. */
export interface FoundRecord<Records extends Table> {
  readonly records: Records;
  readonly place: Place;
}

export class PendingRecords<Records extends Table> {
  readonly #make: () => Records;
  /** At most MOST_SECRETS. An empty group may be assigned to another secret. */
  readonly #groups: SecretRecords<Records>[] = [];

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

  /** The records under a secret; undefined if there are records under MOST_SECRETS other secrets. */
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

  /** The peer's pending record, found by the text of its key. O(length) for each secret. */
  find(text: string): FoundRecord<Records> | undefined {
    for (const { secret, records } of this.#groups) {
      if (records.size === 0) continue;
      const place = records.find(nameOf(digestOf(text, secret)));
      if (place !== undefined) return { records, place };
    }
    return undefined;
  }

  /** Calls use(records, place) with the peer's pending record, if there is one, then removes the record. */
  take(text: string, use: (records: Records, place: Place) => void): void {
    if (this.isEmpty) return;
    const found = this.find(text);
    if (found === undefined) return;
    use(found.records, found.place);
    found.records.delete(found.records.keyAt(found.place));
  }

  remove(text: string): void {
    this.take(text, () => {});
  }

  groups(): readonly SecretRecords<Records>[] {
    return this.#groups;
  }

  /** A pass of a sweep that removes the records for which expire(records, place) returns true. */
  pass(expire: (records: Records, place: Place) => boolean): Pass {
    const visit = (name: string, value: unknown) => {
      const records = value as Records;
      const place = records.find(name);
      if (place !== undefined && expire(records, place)) records.delete(name);
      // A sweep counts removed peers, and a pending record is not one.
      return false;
    };
    return { size: this.size, entries: () => this.#entries(), visit };
  }

  clear(): void {
    // A snapshot in progress may still iterate over one of these tables; it finds no more records.
    for (const { records } of this.#groups) records.clear();
    this.#groups.length = 0;
  }

  *#entries(): Generator<[name: string, records: Records], void> {
    for (const { records } of this.#groups) {
      for (const [name] of records.entries()) yield [name, records];
    }
  }
}

/** The key by which a table knows a digest: two code units for each of its four words. */
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

/** The four words of a digest, from the key that nameOf() returned. */
export function wordsOf(name: string): number[] {
  const word = (i: number) => (name.charCodeAt(2 * i) | (name.charCodeAt(2 * i + 1) << 16)) >>> 0;
  return [word(0), word(1), word(2), word(3)];
}

function isSame(a: Uint32Array, b: Uint32Array): boolean {
  return a.every((word, i) => word === b[i]);
}

/** Calls `use` for each peer of a snapshot, and returns how often it returned true. */
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

/**
 * Stores a pending time under a digest, or keeps the later of two. False if the digest has none yet and `hasCapacity`
 * is false.
 */
export function restoreTime(
  records: Times,
  name: string,
  at: number,
  hasCapacity: boolean,
): boolean {
  const place = records.find(name);
  if (place !== undefined) records.set(place, Math.max(records.at(place), at));
  else if (hasCapacity) records.insert(name, at);
  return place !== undefined || hasCapacity;
}
