// RecordKeeper makes room for the lease records of new peers: it deletes records without a lease, refusal or violation, reports
// those of peers that have left, and evicts others if there are too many. A record with a request in flight stays.

import { MOST_KEYS } from '../../tables/table.js';
import type { LeaseRecords, RecordIndex } from './lease-records.js';
import type { SharedLimitConfig } from './options.js';

/** Records that an eviction looks at. */
const EVICTION_TRIES = 8;

/** What a RecordKeeper needs of the owner of the records. */
export interface RecordOwner {
  /** Whether a request for the peer is in flight. */
  hasRequest(key: string): boolean;
  /** Whether the store is known not to answer for the peer. */
  isDown(key: string): boolean;
  /** Returns the peer's lease and violations to the store, and deletes its record. */
  release(key: string): void;
}

export class RecordKeeper {
  evictions = 0;
  readonly #config: SharedLimitConfig;
  readonly #records: LeaseRecords;
  readonly #owner: RecordOwner;
  /** The index of the record that is looked at next. */
  #nextIndex = 0;

  constructor(config: SharedLimitConfig, records: LeaseRecords, owner: RecordOwner) {
    this.#config = config;
    this.#records = records;
    this.#owner = owner;
  }

  /** The peer's record; undefined if none can be added. Before it adds one, it looks at two others for deletion. */
  findOrInsert(key: string, now: number): RecordIndex | undefined {
    const known = this.#records.find(key);
    if (known !== undefined) return known;
    this.#sweep(now);
    this.#sweep(now);
    const most = Math.min(this.#config.maxPeers, MOST_KEYS);
    if (this.#records.size >= most && !this.#evict()) return undefined;
    return this.#records.insert(key);
  }

  #sweep(now: number): void {
    const key = this.#nextKey();
    if (key === undefined || this.#owner.hasRequest(key)) return;
    const index = this.#records.find(key) as RecordIndex;
    if (this.#records.isIdle(index, now)) this.#records.delete(key);
    else if (this.#records.left(index, now) === 0) this.#reportIfOld(key, index, now);
  }

  /** Reports the violations of a peer without a recent request, and deletes its record. */
  #reportIfOld(key: string, index: RecordIndex, now: number): void {
    const isOld = now - this.#records.ends(index) > this.#config.leaseSeconds;
    if (isOld && !this.#owner.isDown(key)) this.#owner.release(key);
  }

  #evict(): boolean {
    for (let tries = 0; tries < EVICTION_TRIES; tries += 1) {
      const key = this.#nextKey();
      if (key === undefined || this.#owner.hasRequest(key)) continue;
      this.evictions += 1;
      this.#owner.release(key);
      return true;
    }
    return false;
  }

  #nextKey(): string | undefined {
    if (this.#records.size === 0) return undefined;
    if (this.#nextIndex >= this.#records.size) this.#nextIndex = 0;
    const key = this.#records.keyAt(this.#nextIndex);
    this.#nextIndex += 1;
    return key;
  }
}
