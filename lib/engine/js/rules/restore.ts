// Restores what a snapshot has stored of the peers of a scope. Counterpart of native/limiters/rules/scope.h.

import { NEVER } from '../../../tables/arithmetic.js';
import type { Keys } from '../../../tables/keys.js';
import type { Place } from '../../../tables/table.js';
import {
  MAX_RULES,
  RULE_DIGEST_NUMBERS,
  RULE_OFFENDER_NUMBERS,
  type RuleDigestColumns,
  type RuleOffenderColumns,
} from '../../rules.js';
import { MOST_LOOKED_AT, SAMPLE } from '../eviction.js';
import { COST_OF_BANNED, costOfClean, costOfOffender } from '../eviction-cost.js';
import { nameOf } from '../pending.js';
import { reserveRulesStack } from '../stack.js';
import type { Rates } from './rates.js';
import type { RuleRecords } from './records.js';
import { NONE, type ScopeState } from './scope.js';

// Columns of an offender.
const VIOLATIONS = 0;
const LEVEL = 1;
const BAN_LEVEL = 2;
const BAN_LEFT = 3;
const SINCE_BAN = 4;
const IDLE = 5;
const USED = 6;

export function restoreOffenders(
  scope: ScopeState,
  rates: Rates,
  keys: Keys,
  offenders: RuleOffenderColumns,
  now: number,
): number {
  let restored = 0;
  // As restoreAll() in records.ts.
  let most = MOST_LOOKED_AT;
  for (const [i, text] of offenders.keys.entries()) {
    const row = offenders.numbers.subarray(
      i * RULE_OFFENDER_NUMBERS,
      (i + 1) * RULE_OFFENDER_NUMBERS,
    );
    scope.lookUp(keys.find(text));
    if (restoreOffender(scope, rates, text, row, now, most)) restored += 1;
    else most = SAMPLE;
  }
  return restored;
}

function restoreOffender(
  scope: ScopeState,
  rates: Rates,
  text: string,
  row: Float64Array,
  now: number,
  most: number,
): boolean {
  reserveRulesStack();
  const { offenders, records, policy } = scope;
  const saved = savedRecord(scope, rates, row.subarray(USED), now - (row[IDLE] as number));
  const violations = row[VIOLATIONS] as number;
  const level = row[LEVEL] as number;
  const banLevel = row[BAN_LEVEL] as number;
  const end = savedEnd(row, now);
  const isNew = scope.place === NONE;
  if (isNew) {
    const seconds = rates.secondsUntilFresh(saved, 0, scope.index, scope.slots, now);
    const idle = now - (saved[0] as number);
    const cost = violations > 0 ? costOfOffender(violations, idle) : costOfClean(seconds);
    if (!scope.admit(now, now < end ? COST_OF_BANNED : cost, most)) return false;
  }
  const hasPending = isNew && scope.findPending(text) !== undefined;
  const isPunished = level > 0 || banLevel > 0 || end > NEVER;
  scope.stage(text, violations > 0, isPunished, now);
  scope.commit(text, now);
  if (isNew && !hasPending) copyRecord(saved, scope, records, scope.place);
  else mergeRecord(saved, scope, rates, records, scope.place);
  offenders.raiseViolations(scope.key, violations);
  offenders.raiseLevels(scope.key, level, banLevel, policy, now);
  if (isPunished) offenders.extendBan(scope.key, end);
  return true;
}

/** The end of a saved ban, in force or over; NEVER without one. */
function savedEnd(row: Float64Array, now: number): number {
  const left = row[BAN_LEFT] as number;
  const since = row[SINCE_BAN] as number;
  if (!Number.isNaN(left)) return now + left;
  return Number.isNaN(since) ? NEVER : now - since;
}

export function restoreDigests(
  scope: ScopeState,
  rates: Rates,
  { secret, digests, numbers }: RuleDigestColumns,
  now: number,
): number {
  const records = scope.pending.under(secret);
  if (records === undefined) return 0;
  let restored = 0;
  for (let i = 0; i * 4 < digests.length; i += 1) {
    const row = numbers.subarray(i * RULE_DIGEST_NUMBERS, (i + 1) * RULE_DIGEST_NUMBERS);
    const saved = savedRecord(scope, rates, row.subarray(1), now - (row[0] as number));
    if (!saved.some((used, slot) => slot > 0 && used > 0)) continue;
    const name = nameOf(digests.subarray(i * 4, i * 4 + 4));
    const place = records.find(name);
    if (place !== undefined) mergeRecord(saved, scope, rates, records, place);
    else if (!scope.hasRoomForPending) continue;
    else copyRecord(saved, scope, records, records.insert(name, now));
    restored += 1;
  }
  return restored;
}

/** Restores what `saveSingle` has returned: keeps the higher used tokens. */
export function restoreSingle(
  scope: ScopeState,
  rates: Rates,
  numbers: Float64Array,
  now: number,
): void {
  const saved = savedRecord(scope, rates, numbers.subarray(1), now - (numbers[0] as number));
  mergeRecord(saved, scope, rates, scope.records, scope.place);
}

/** A record as it was saved, last refilled at `at`. */
function savedRecord(
  { index, slots }: ScopeState,
  rates: Rates,
  used: Float64Array,
  at: number,
): Float64Array {
  const record = new Float64Array(1 + MAX_RULES);
  record[0] = at;
  for (let slot = 0; slot < slots; slot += 1) {
    const saved = used[slot] as number;
    record[1 + slot] = Number.isNaN(saved) ? 0 : saved;
  }
  rates.settle(record, 0, index, slots);
  return record;
}

function copyRecord(
  saved: Float64Array,
  { slots }: ScopeState,
  records: RuleRecords,
  place: Place,
): void {
  records.numbers.set(saved.subarray(0, 1 + slots), records.baseOf(place));
}

/** Refills both records at the rates of the base plan, and keeps the higher used tokens. */
function mergeRecord(
  saved: Float64Array,
  { index, slots }: ScopeState,
  rates: Rates,
  records: RuleRecords,
  place: Place,
): void {
  const { numbers } = records;
  const base = records.baseOf(place);
  rates.refill(saved, 0, index, slots, 0);
  rates.refill(numbers, base, index, slots, 0);
  for (let slot = 1; slot <= slots; slot += 1) {
    numbers[base + slot] = Math.max(numbers[base + slot] as number, saved[slot] as number);
  }
}
