// What a request costs, in one unit or several. A number counts requests, or the one unit that all policies of its
// limiter count; an object has an amount for each unit.

import { invalidValue } from '../common/errors.js';
import { isRecord } from '../common/kinds.js';
import { requireCost } from '../common/options.js';

/** Amounts by unit, such as `{ requests: 1, tokens: 900 }`; each is finite and at least 0. */
export type Costs = Readonly<Record<string, number>>;

/** An amount of `requests`, or amounts of several units. */
export type Cost = number | Costs;

/** The unit of a cost that is a number. */
export const REQUESTS = 'requests';

/** Returns the amount of a unit; 0 if the cost has none of it. */
export function amountOf(cost: Cost, unit: string): number {
  if (typeof cost === 'number') return unit === REQUESTS ? cost : 0;
  return cost[unit] ?? 0;
}

/** Returns a number as an amount of `unit` and, if that is not `requests`, one request; any other cost as it is. */
export function inUnit(cost: Cost, unit: string): Cost {
  if (typeof cost !== 'number' || unit === REQUESTS) return cost;
  const costs = emptyCosts();
  costs[REQUESTS] = 1;
  costs[unit] = cost;
  return costs;
}

/** Returns `a + b`, unit by unit. Allocates nothing if both are numbers. */
export function plus(a: Cost, b: Cost): Cost {
  if (typeof a === 'number' && typeof b === 'number') return a + b;
  return combine(a, b, (left, right) => left + right);
}

/** Returns `a - b`, unit by unit; an amount may be below 0. Allocates nothing if both are numbers. */
export function minus(a: Cost, b: Cost): Cost {
  if (typeof a === 'number' && typeof b === 'number') return a - b;
  return combine(a, b, (left, right) => left - right);
}

/** Returns the cost times `factor`. */
export function times(cost: Cost, factor: number): Cost {
  return typeof cost === 'number' ? cost * factor : combine(cost, 0, (amount) => amount * factor);
}

/** Returns the cost without its amounts below 0. */
export function positivePart(cost: Cost): Cost {
  if (typeof cost === 'number') return Math.max(0, cost);
  return combine(cost, 0, (amount) => Math.max(0, amount));
}

/** Returns a copy with the amount of every unit; that of `requests` is always there. */
export function toCosts(cost: Cost): Costs {
  return typeof cost === 'number' ? { [REQUESTS]: cost } : { ...cost };
}

/**
 * Returns a copy of the cost that a caller gives. One request is counted if an object says nothing of `requests`.
 * @throws ERR_LIMITER_COST
 */
export function readCost(given: unknown): Cost {
  if (typeof given === 'number') {
    requireCost(given);
    return given;
  }
  if (!isRecord(given)) {
    const accepted = 'a finite number of at least 0, or an object such as { tokens: 900 }';
    throw invalidValue('ERR_LIMITER_COST', 'a cost', given, accepted);
  }
  const costs = emptyCosts();
  costs[REQUESTS] = 1;
  for (const [unit, amount] of Object.entries(given)) {
    requireCost(amount, `the cost in ${JSON.stringify(unit)}`);
    costs[unit] = amount;
  }
  return Object.keys(costs).length === 1 ? (costs[REQUESTS] as number) : costs;
}

function combine(a: Cost, b: Cost, operate: (left: number, right: number) => number): Costs {
  const result = emptyCosts();
  for (const cost of [a, b]) {
    const units = typeof cost === 'number' ? [REQUESTS] : Object.keys(cost);
    for (const unit of units) result[unit] = operate(amountOf(a, unit), amountOf(b, unit));
  }
  return result;
}

/** Without a prototype, so that a unit may have the name of an object member. */
function emptyCosts(): Record<string, number> {
  return Object.create(null) as Record<string, number>;
}
