// What a process has spent of a shared quota: entries that the store has not acknowledged, and the log of all that may
// still count in some window, which is reported again if the store has lost its data.

import { amountOf, type Cost, minus, plus, REQUESTS } from '../../client/cost.js';
import { type Policy, unitOf } from '../../client/policies.js';
import { SlidingWindow } from '../../client/windows/sliding.js';

/** An amount that was spent at a time. */
export interface Spent {
  readonly at: number;
  cost: Cost;
  /** The number of the call that reported it first; 0 before that. */
  sentIn: number;
  /** The number of the call whose lease was spent; 0 if it was none. */
  readonly leaseId: number;
  /** Whether it takes back a part of what an earlier entry has reported. */
  readonly isCorrection: boolean;
}

/** Entries beyond which neighbours are merged: what is sent while the store does not answer. */
const MAX_ENTRIES = 512;
/** More than clocks drift apart. */
const MAX_DRIFT = 0.01;

export class SpentLog {
  #unreported: Spent[] = [];
  #windows: ReadonlyMap<string, SlidingWindow>;

  constructor(policies: readonly Policy[]) {
    this.#windows = longestWindows(policies);
  }

  get isEmpty(): boolean {
    return this.#unreported.length === 0;
  }

  add(cost: Cost, at: number, leaseId = 0): Spent {
    const spent = { at, cost, leaseId, sentIn: 0, isCorrection: false };
    this.#insert(spent);
    for (const [unit, window] of this.#windows) window.take(amountOf(cost, unit), at);
    return spent;
  }

  /**
   * Takes back a part of an entry. Returns true if the entry has not been reported to the store: the node may spend
   * that part again. Otherwise the next report corrects the entry.
   */
  takeBack(spent: Spent, cost: Cost, now: number): boolean {
    for (const [unit, window] of this.#windows) window.refund(amountOf(cost, unit), spent.at, now);
    if (spent.sentIn === 0) {
      spent.cost = minus(spent.cost, cost);
      return true;
    }
    this.#insert({ at: spent.at, cost: minus(0, cost), leaseId: 0, sentIn: 0, isCorrection: true });
    return false;
  }

  /**
   * Returns all entries for the call of that number. `lateSeconds`: the longest time from the making of a call to its
   * execution. An entry must not seem older than it is, and a correction no younger than what it corrects.
   */
  report(id: number, units: readonly string[], now: number, lateSeconds: number): number[][] {
    return this.#unreported.map((spent) => {
      if (spent.sentIn === 0) spent.sentIn = id;
      const age = Math.max(0, now - spent.at);
      const seconds = spent.isCorrection
        ? age * (1 + MAX_DRIFT) + lateSeconds
        : age * (1 - MAX_DRIFT);
      return [spent.sentIn, seconds, ...units.map((unit) => amountOf(spent.cost, unit))];
    });
  }

  /** Forgets the entries that the call of that number has reported. */
  acknowledge(id: number): void {
    this.#unreported = this.#unreported.filter(({ sentIn }) => sentIn === 0 || sentIn > id);
  }

  /** Reports all that may still count once more, because the store has lost it. */
  reportAgain(now: number): void {
    for (const spent of this.#unreported) spent.sentIn = Infinity;
    this.#unreported = [...this.#windows].flatMap(([unit, window]) => {
      const saved = window.save(now);
      return saved.flatMap((age, index) => {
        if (index % 2 === 1) return [];
        const cost = costOf(unit, saved[index + 1] as number);
        return [{ at: now + age, cost, leaseId: 0, sentIn: 0, isCorrection: false }];
      });
    });
  }

  /** What was spent so far counts in the windows of other policies. */
  replacePolicies(policies: readonly Policy[], now: number): void {
    const windows = longestWindows(policies);
    for (const [unit, window] of windows) {
      const saved = this.#windows.get(unit)?.save(now) ?? [];
      for (let index = 0; index < saved.length; index += 2) {
        window.take(saved[index + 1] as number, now + (saved[index] as number));
      }
    }
    this.#windows = windows;
  }

  #insert(spent: Spent): void {
    this.#unreported.push(spent);
    if (this.#unreported.length <= MAX_ENTRIES) return;
    const merged: Spent[] = [];
    // Neighbours are merged in pairs.
    let last: Spent | undefined;
    for (const next of this.#unreported) {
      if (last === undefined || !canMerge(last) || !canMerge(next)) {
        merged.push(next);
        last = next;
        continue;
      }
      const cost = plus(last.cost, next.cost);
      const at = Math.max(last.at, next.at);
      merged[merged.length - 1] = { at, cost, leaseId: 0, sentIn: 0, isCorrection: false };
      // What is taken back of either is a correction from now on.
      last.sentIn = Infinity;
      next.sentIn = Infinity;
      last = undefined;
    }
    this.#unreported = merged;
  }
}

function canMerge({ sentIn, isCorrection }: Spent): boolean {
  return sentIn === 0 && !isCorrection;
}

function costOf(unit: string, amount: number): Cost {
  if (unit === REQUESTS) return amount;
  return { [REQUESTS]: 0, [unit]: amount };
}

/** Returns a log for each unit, of its longest window. */
function longestWindows(policies: readonly Policy[]): Map<string, SlidingWindow> {
  const longest = new Map<string, Policy>();
  for (const policy of policies) {
    const known = longest.get(unitOf(policy));
    if (known === undefined || known.windowSeconds < policy.windowSeconds) {
      longest.set(unitOf(policy), policy);
    }
  }
  return new Map([...longest].map(([unit, policy]) => [unit, new SlidingWindow(policy)]));
}
