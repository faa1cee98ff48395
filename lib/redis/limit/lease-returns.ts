// LeaseReturns: gives leases back to the store, with the violations that it does not know.

import type { ReplyClock } from '../store/reply-clock.js';
import type { LeaseRecords } from './lease-records.js';
import type { LimitStore } from './limit-store.js';

/** Leases that one call returns when the limiter closes, and calls that are made at once. */
const BATCH_SIZE = 200;
const BATCHES_AT_ONCE = 16;

/** A lease that goes back to the store. */
interface LeaseReturn {
  readonly key: string;
  /** The number of the lease, its unspent tokens, and violations that the store does not know. */
  readonly args: readonly [string, string, string];
}

export class LeaseReturns {
  readonly #store: LimitStore;
  readonly #records: LeaseRecords;
  readonly #clock: ReplyClock;
  readonly #inFlight = new Set<Promise<unknown>>();

  constructor(store: LimitStore, records: LeaseRecords, clock: ReplyClock) {
    this.#store = store;
    this.#records = records;
    this.#clock = clock;
  }

  /** Deletes the peer's record and reports to the store what the store does not know. */
  return(key: string): void {
    const lease = this.#take(key);
    if (lease !== undefined) this.#send([lease]);
  }

  /** Returns the leases of all peers. Resolves when no return is in flight. */
  async returnAll(): Promise<void> {
    const batches = new Map<number, LeaseReturn[]>();
    for (let index = this.#records.size - 1; index >= 0; index -= 1) {
      // A check after close() may have deleted other records in the meantime.
      const key = index < this.#records.size ? this.#records.keyAt(index) : undefined;
      const lease = key === undefined ? undefined : this.#take(key);
      if (lease === undefined) continue;
      const group = this.#store.groupOf(lease.key);
      const batch = batches.get(group) ?? [];
      batches.set(group, batch);
      if (batch.push(lease) === BATCH_SIZE) this.#send(batch.splice(0));
      if (this.#inFlight.size >= BATCHES_AT_ONCE) await Promise.all(this.#inFlight);
    }
    for (const batch of batches.values()) if (batch.length > 0) this.#send(batch);
    await Promise.all(this.#inFlight);
  }

  /** Deletes the peer's record. Returns what the store does not know; undefined if that is nothing. */
  #take(key: string): LeaseReturn | undefined {
    const index = this.#records.find(key);
    if (index === undefined) return undefined;
    const left = this.#records.left(index, this.#clock.readInReply());
    const violations = this.#records.unreported(index);
    const leaseId = this.#records.leaseId(index);
    this.#records.delete(key);
    if ((left === 0 && violations === 0) || this.#store.isDown(key)) return undefined;
    return { key, args: [String(leaseId), String(left), String(violations)] };
  }

  /** Returns leases of one group. */
  #send(leases: readonly LeaseReturn[]): void {
    const [first, ...others] = leases.map(({ key }) => key) as [string, ...string[]];
    const args = [this.#store.nodeId, ...leases.flatMap((lease) => lease.args)];
    // If the call fails, the store treats the tokens as spent until the lease ends.
    const returned = this.#store.runForAll('release', [first, ...others], args).catch(() => {});
    this.#inFlight.add(returned);
    returned.then(() => this.#inFlight.delete(returned));
  }
}
