// JsLeaseTable stores a lease per peer: tokens that the peer may spend until a time. It never refills a lease, and the
// caller decides how large a lease is. Counterpart of native/limiters/lease-table.h; the contract is
// lib/engine/engine.ts and the tests of both engines.

import { countingPauses, monotonicSeconds } from '../../common/clock.js';
import { NEVER } from '../../tables/arithmetic.js';
import { Keys, keep } from '../../tables/keys.js';
import { type Place, Table } from '../../tables/table.js';
import { type LeaseTable, REFUSED } from '../engine.js';
import { reserveStack } from './stack.js';

// A lease is two doubles: tokens, and the instant at which they expire.
const DOUBLES = 2;

class Leases extends Table {
  constructor() {
    super(DOUBLES);
  }

  insert(key: string): Place {
    const place = this.add(key, undefined);
    this.set(place, 0, NEVER);
    return place;
  }

  set(place: Place, tokens: number, until: number): void {
    this.doubles[place * DOUBLES] = tokens;
    this.doubles[place * DOUBLES + 1] = until;
  }

  tokens(place: Place): number {
    return this.doubles[place * DOUBLES] as number;
  }

  until(place: Place): number {
    return this.doubles[place * DOUBLES + 1] as number;
  }

  take(place: Place, cost: number): void {
    (this.doubles[place * DOUBLES] as number) -= cost;
  }
}

export class JsLeaseTable implements LeaseTable {
  readonly #keys = new Keys();
  readonly #leases = new Leases();

  /** A lease must end although the machine sleeps: the store counts that time, and grants its tokens again. */
  readonly now = countingPauses(monotonicSeconds);

  spend(key: string, cost: number, now = this.now()): typeof REFUSED | undefined {
    const place = this.#leases.find(this.#keys.find(key));
    if (place === undefined) return REFUSED;
    if (!(now < this.#leases.until(place)) || !(this.#leases.tokens(place) >= cost)) return REFUSED;
    this.#leases.take(place, cost);
    return undefined;
  }

  set(key: string, tokens: number, until: number): void {
    reserveStack();
    const found = this.#keys.find(key);
    const place = this.#leases.find(found) ?? this.#leases.insert(keep(found));
    this.#leases.set(place, tokens, until);
  }

  tokens(key: string): number {
    const place = this.#leases.find(this.#keys.find(key));
    return place === undefined ? 0 : this.#leases.tokens(place);
  }

  delete(key: string): void {
    reserveStack();
    this.#leases.delete(this.#keys.find(key));
  }

  total(now: number): number {
    let total = 0;
    for (let place = 0; place < this.#leases.size; place += 1) {
      if (now < this.#leases.until(place)) total += this.#leases.tokens(place);
    }
    return total;
  }
}
