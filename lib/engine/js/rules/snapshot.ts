// A walk visits everything that a snapshot stores of a scope, in bounded steps. Between two steps the limiter may be used.
// Counterpart of native/limiters/rules/scope.h; the order is that of snapshot-walk.ts.

import { elapsed, NEVER } from '../../../tables/arithmetic.js';
import type { Keys } from '../../../tables/keys.js';
import type { Place } from '../../../tables/table.js';
import type { RuleSnapshotStep } from '../../rules.js';
import { wordsOf } from '../pending.js';
import type { Rates } from './rates.js';
import type { RuleRecords } from './records.js';
import type { ScopeState } from './scope.js';

/** The number of offenders that one step collects. */
const COLLECTED = 10_000;

/** The columns of one step. */
class Columns {
  #keys: string[] = [];
  #offenders: number[] = [];
  #digests: number[] = [];
  #others: number[] = [];
  readonly #scope: ScopeState;
  readonly #rates: Rates;

  constructor(scope: ScopeState, rates: Rates) {
    this.#scope = scope;
    this.#rates = rates;
  }

  addOffender(place: Place, key: string, now: number): void {
    const { offenders, records, policy } = this.#scope;
    const { level, banLevel, end } = offenders.punishmentOf(key, policy, now);
    const isBanned = now < end;
    this.#keys.push(offenders.textOf(key));
    this.#offenders.push(offenders.violations(key), level, banLevel);
    this.#offenders.push(isBanned ? end - now : Number.NaN);
    this.#offenders.push(isBanned || end === NEVER ? Number.NaN : now - end);
    this.#offenders.push(elapsed(now, records.at(place)));
    this.#offenders.push(...this.#savedUsed(records, place, now));
  }

  addOther(records: RuleRecords, place: Place, digest: () => ArrayLike<number>, now: number): void {
    const saved = this.#savedUsed(records, place, now);
    if (saved.every(Number.isNaN)) return;
    this.#digests.push(...Array.from(digest()));
    this.#others.push(elapsed(now, records.at(place)), ...saved);
  }

  /** The step so far; begins a new one. `secret` is that of the digests. */
  takeStep(secret: Uint32Array): RuleSnapshotStep {
    const offenders = { keys: this.#keys, numbers: Float64Array.from(this.#offenders) };
    const digests = {
      secret,
      digests: Uint32Array.from(this.#digests),
      numbers: Float64Array.from(this.#others),
    };
    this.#keys = [];
    this.#offenders = [];
    this.#digests = [];
    this.#others = [];
    return { offenders, digests };
  }

  #savedUsed(records: RuleRecords, place: Place, now: number): number[] {
    const { index, slots } = this.#scope;
    const base = records.baseOf(place);
    return this.#rates.savedUsed(records.numbers, base, index, slots, now);
  }
}

/** The idle seconds and the used tokens of a single scope. */
export function saveSingle(
  { records, place, index, slots }: ScopeState,
  rates: Rates,
  now: number,
): Float64Array {
  const base = records.baseOf(place);
  const used = rates.savedUsed(records.numbers, base, index, slots, now);
  return Float64Array.of(elapsed(now, records.at(place)), ...used);
}

export function* walkScope(
  scope: ScopeState,
  rates: Rates,
  keys: Keys,
  most: number,
  time: () => number,
): Generator<RuleSnapshotStep> {
  const { offenders, records } = scope;
  const columns = new Columns(scope, rates);
  const last = offenders.lastOrder;
  // Offenders that are newer than `last` are visited among the other peers.
  const order: string[] = [];
  for (const key of offenders.inOrder(last)) {
    order.push(key);
    if (order.length % COLLECTED === 0) yield columns.takeStep(keys.secret);
  }
  for (let at = 0; at < order.length || at === 0; at += most) {
    const now = time();
    for (const key of order.slice(at, at + most)) {
      const place = records.find(key);
      if (place !== undefined && offenders.isListed(place, key, now)) {
        columns.addOffender(place, key, now);
      }
    }
    yield columns.takeStep(keys.secret);
  }
  // Pending records come first: a peer that is checked meanwhile is visited again in its table.
  for (const { secret, records } of [...scope.pending.groups()]) {
    const add = (name: string, place: Place, now: number) => {
      columns.addOther(records, place, () => wordsOf(name), now);
    };
    yield* visit(records, add, () => columns.takeStep(secret), most, time);
  }
  const add = (key: string, place: Place, now: number) => {
    if (!offenders.isListed(place, key, now)) {
      columns.addOther(records, place, () => keys.digestOf(key), now);
    } else if (offenders.isNewerThan(key, last)) {
      columns.addOffender(place, key, now);
    }
  };
  // The secret is read at each step: the limiter may adopt another one during the walk, if it has no peers then.
  yield* visit(records, add, () => columns.takeStep(keys.secret), most, time);
}

/** Visits as many records as there are now, so that a flood of new peers cannot keep the walk running forever. */
function* visit(
  records: RuleRecords,
  add: (key: string, place: Place, now: number) => void,
  takeStep: () => RuleSnapshotStep,
  most: number,
  time: () => number,
): Generator<RuleSnapshotStep> {
  const { size } = records;
  let now = time();
  let visited = 0;
  for (const [key, place] of records.entries()) {
    if (visited === size) break;
    add(key, place, now);
    visited += 1;
    if (visited % most !== 0) continue;
    yield takeStep();
    now = time();
  }
  yield takeStep();
}
