// Rates refills records at the rates of the plan that asks. It remembers the last changes of rates, so that the time
// before a change counts at the rates before it, and when each slot got its rule. A record is an array of doubles: at
// its base the instant of the last refill, then the used tokens of each slot. Counterpart of
// native/limiters/rules/rates.h.

import { elapsed, NEVER } from '../../../tables/arithmetic.js';
import { SNAPSHOT_SECONDS } from '../../engine.js';
import { MAX_RULES, RATE_CHANGES, type RulePlan } from '../../rules.js';

/** Indexes in Rates.clock. */
export const NOW = 0;
const LATEST = 1;
const EARLIEST = 2;

/** An update that changed a rate. */
interface RateChange {
  readonly at: number;
  /** The rates before it. */
  readonly rates: Float64Array;
  /** For each current plan: its index in `rates`. */
  readonly plans: Uint16Array;
}

export class Rates {
  readonly #scopes: number;
  /** As RulePlan.rates. */
  #rates: Float64Array;
  /** The oldest first. */
  #changes: RateChange[] = [];
  /** For each scope and slot: the instant of the update that gave it another rule; NEVER without one. */
  readonly #since: Float64Array;
  /** The instant of the last update that reused a slot or changed a rate. */
  #lastUpdate = NEVER;
  /**
   * The time of the current call, the latest time of all calls, and the earliest time of later ones: it is later than
   * each update that reused a slot. An array, because passing a time along may allocate a number.
   */
  readonly clock: Float64Array = Float64Array.of(NEVER, NEVER, NEVER);

  constructor(plan: RulePlan, scopes: number) {
    this.#scopes = scopes;
    this.#rates = plan.rates;
    this.#since = new Float64Array(scopes * MAX_RULES).fill(NEVER);
  }

  /** Begins a call: sets the time of the engine if its clock says `now`. */
  setTime(now: number): void {
    const { clock } = this;
    const time = now < (clock[EARLIEST] as number) ? (clock[EARLIEST] as number) : now;
    clock[NOW] = time;
    if (time > (clock[LATEST] as number)) clock[LATEST] = time;
  }

  /** Calls setTime() and returns the time. */
  time(now: number): number {
    this.setTime(now);
    return this.clock[NOW] as number;
  }

  /** `slotsBefore` is RulePlan.slots before the update: only these slots can have had another rule. */
  update(plan: RulePlan, slotsBefore: Uint8Array, now: number): void {
    const { rates, origins, added } = plan;
    const isChanged = this.#isChanged(plan);
    this.#changes = this.#changes.map(({ at, rates, plans }) => {
      return { at, rates, plans: origins.map((origin) => plans[origin] as number) };
    });
    if (isChanged) {
      this.#changes.push({ at: now, rates: this.#rates, plans: origins.slice() });
      if (this.#changes.length > RATE_CHANGES) this.#changes.shift();
      this.#lastUpdate = Math.max(this.#lastUpdate, now);
    }
    this.#rates = rates;
    const reused = added.map((slots, scope) => slots & ((1 << (slotsBefore[scope] as number)) - 1));
    if (reused.some((slots) => slots !== 0)) this.#reuse(reused);
  }

  /** Refills a record of `slots` slots for a plan. The time in a record only moves forward. */
  refill(record: Float64Array, base: number, scope: number, slots: number, plan: number): void {
    const now = this.clock[NOW] as number;
    const at = record[base] as number;
    if (!(now > at)) return;
    if (at <= this.#lastUpdate) {
      for (let slot = 0; slot < slots; slot += 1) {
        const used = record[base + 1 + slot] as number;
        record[base + 1 + slot] = this.usedAt(used, at, scope, slot, plan, now);
      }
    } else {
      const seconds = now - at;
      const rates = this.#rates;
      const row = (plan * this.#scopes + scope) * MAX_RULES;
      for (let slot = 0; slot < slots; slot += 1) {
        const left = (record[base + 1 + slot] as number) - seconds * (rates[row + slot] as number);
        record[base + 1 + slot] = left > 0 ? left : 0;
      }
    }
    record[base] = now;
  }

  /** The used tokens of a slot at `now`, if they were `used` after the last refill, `at`. */
  usedAt(used: number, at: number, scope: number, slot: number, plan: number, now: number): number {
    if (at <= (this.#since[scope * MAX_RULES + slot] as number)) return 0;
    return this.#drained(used, at, scope, slot, plan, now);
  }

  /** The used tokens of a record that a snapshot saves, as of its last refill, or NaN. */
  savedUsed(
    record: Float64Array,
    base: number,
    scope: number,
    slots: number,
    now: number,
  ): number[] {
    const at = record[base] as number;
    const saved: number[] = new Array(MAX_RULES).fill(Number.NaN);
    for (let slot = 0; slot < slots; slot += 1) {
      const seconds = this.secondsUntilUnused(record, base, scope, slot, at, now);
      if (seconds > SNAPSHOT_SECONDS) saved[slot] = record[base + 1 + slot] as number;
    }
    return saved;
  }

  /**
   * Makes a saved record usable: if its last refill was before slots got other rules, it is refilled up to then, without
   * losing what it says of these rules.
   */
  settle(record: Float64Array, base: number, scope: number, slots: number): void {
    const at = record[base] as number;
    const earliest = this.clock[EARLIEST] as number;
    if (!(at < earliest)) return;
    for (let slot = 0; slot < slots; slot += 1) {
      const used = record[base + 1 + slot] as number;
      record[base + 1 + slot] = this.#drained(used, at, scope, slot, 0, earliest);
    }
    record[base] = earliest;
  }

  /** The seconds from `now` until a record has nothing used, at the rates of the base plan; 0 if it has not. */
  secondsUntilFresh(
    record: Float64Array,
    base: number,
    scope: number,
    slots: number,
    now: number,
  ): number {
    const at = record[base] as number;
    let seconds = 0;
    for (let slot = 0; slot < slots; slot += 1) {
      seconds = Math.max(seconds, this.secondsUntilUnused(record, base, scope, slot, at, now));
    }
    return seconds;
  }

  /** The same for one slot. A slot without a rule has the rate 0, and what it has used does not count. */
  secondsUntilUnused(
    record: Float64Array,
    base: number,
    scope: number,
    slot: number,
    at: number,
    now: number,
  ): number {
    const used = record[base + 1 + slot] as number;
    const rate = this.#rates[scope * MAX_RULES + slot] as number;
    if (!(used > 0) || !(rate > 0)) return 0;
    return this.usedAt(used, at, scope, slot, 0, now) / rate;
  }

  #drained(
    used: number,
    at: number,
    scope: number,
    slot: number,
    plan: number,
    now: number,
  ): number {
    let left = used;
    let from = at;
    if (at <= this.#lastUpdate) {
      for (const change of this.#changes) {
        const until = change.at < now ? change.at : now;
        if (!(until > from)) continue;
        const row = ((change.plans[plan] as number) * this.#scopes + scope) * MAX_RULES;
        left = drain(left, until - from, change.rates[row + slot] as number);
        from = until;
      }
    }
    const row = (plan * this.#scopes + scope) * MAX_RULES;
    return drain(left, elapsed(now, from), this.#rates[row + slot] as number);
  }

  /** Whether a rate of a plan differs from the one that the plan had before the update. */
  #isChanged({ plans, rates, origins }: RulePlan): boolean {
    const size = this.#scopes * MAX_RULES;
    for (let plan = 0; plan < plans; plan += 1) {
      const before = (origins[plan] as number) * size;
      for (let i = 0; i < size; i += 1) {
        if (rates[plan * size + i] !== this.#rates[before + i]) return true;
      }
    }
    return false;
  }

  /**
   * The slots get other rules. Records with a later refill have the state of these. If the clock has stepped back, there
   * may be records from a later time, and they are older than the rules too.
   */
  #reuse(reused: Uint16Array): void {
    const instant = this.clock[LATEST] as number;
    this.clock[EARLIEST] = nextUp(instant);
    for (let scope = 0; scope < this.#scopes; scope += 1) {
      const slots = reused[scope] as number;
      for (let slot = 0; slot < MAX_RULES; slot += 1) {
        if ((slots >> slot) & 1) this.#since[scope * MAX_RULES + slot] = instant;
      }
    }
    this.#lastUpdate = Math.max(this.#lastUpdate, instant);
  }
}

function drain(used: number, seconds: number, rate: number): number {
  const left = used - seconds * rate;
  return left > 0 ? left : 0;
}

/** The smallest double above a finite one. */
function nextUp(value: number): number {
  if (value === 0) return Number.MIN_VALUE;
  const double = new Float64Array([value]);
  const bits = new BigInt64Array(double.buffer);
  (bits[0] as bigint) += value > 0 ? 1n : -1n;
  return double[0] as number;
}
