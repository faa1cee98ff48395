// The model's time, and the refill of a peer across updates.

import { MAX_RULES, RATE_CHANGES, type RulePlan } from '../../../dist/engine/rules.js';

export interface Peer {
  key: string;
  /** The instant of the last refill, and how many updates there had been by then. */
  at: number;
  updates: number;
  /** By slot. */
  used: number[];
  violations: number;
  /** Orders peers by their first violation. */
  order: number;
  level: number;
  levelAt: number;
  banLevel: number;
  /** The end of the last ban, in force or over. */
  banEnd: number;
}

/** The time until `until`, back to the era before it. */
interface Era {
  until: number;
  rates: Float64Array;
  /** The index in this era of each plan of today. */
  planThen: number[];
}

/** An instant before any other: it has never happened. */
export const NEVER = -Infinity;

export function elapsed(now: number, then: number): number {
  return now > then ? now - then : 0;
}

export function hasBit(bits: number | undefined, bit: number): boolean {
  return (((bits as number) >> bit) & 1) === 1;
}

export class ModelRates {
  plan: RulePlan;
  readonly #scopes: number;
  /** The oldest first. */
  #eras: Era[] = [];
  #updates = 0;
  /** For each scope and slot: how many updates there had been when its rule was added. */
  readonly #since: number[];
  /** The time is never earlier: the next instant after the last update that put rules in used slots. */
  #earliest = NEVER;
  #latest = NEVER;

  constructor(plan: RulePlan, scopes: number) {
    this.plan = plan;
    this.#scopes = scopes;
    this.#since = new Array(scopes * MAX_RULES).fill(0);
  }

  time(now: number | undefined): number {
    const time = Math.max(now ?? performance.now() / 1000, this.#earliest);
    this.#latest = Math.max(this.#latest, time);
    return time;
  }

  /** The indexes of the added rules. */
  update(plan: RulePlan, time: number): number[] {
    const before = this.plan;
    const origins = [...plan.origins].slice(0, plan.plans);
    this.plan = plan;
    this.#updates += 1;
    for (const era of this.#eras) {
      era.planThen = origins.map((origin) => era.planThen[origin] as number);
    }
    const width = this.#scopes * MAX_RULES;
    const isChanged = origins.some((origin, p) => {
      const old = before.rates.subarray(origin * width, (origin + 1) * width);
      return old.some((rate, i) => rate !== plan.rates[p * width + i]);
    });
    if (isChanged) this.#eras.push({ until: time, rates: before.rates, planThen: origins });
    this.#eras = this.#eras.slice(-RATE_CHANGES);
    const added = [...this.#since.keys()].filter((rule) =>
      hasBit(plan.added[Math.floor(rule / MAX_RULES)], rule % MAX_RULES),
    );
    for (const rule of added) this.#since[rule] = this.#updates;
    // If the clock has stepped back, there are peers from a later time, and they are older than these rules too.
    const isReused = (rule: number) => {
      return rule % MAX_RULES < (before.slots[Math.floor(rule / MAX_RULES)] as number);
    };
    if (added.some(isReused)) this.#earliest = nextUp(this.#latest);
    return added;
  }

  fresh(key: string, at: number): Peer {
    return {
      key,
      at,
      updates: this.#updates,
      used: new Array(MAX_RULES).fill(0),
      violations: 0,
      order: 0,
      level: 0,
      levelAt: NEVER,
      banLevel: 0,
      banEnd: NEVER,
    };
  }

  refill(scope: number, peer: Peer, plan: number, time: number): void {
    if (peer.updates < this.#updates) {
      for (let slot = 0; slot < MAX_RULES; slot += 1) {
        const since = this.#since[scope * MAX_RULES + slot] as number;
        if (peer.updates < since) peer.used[slot] = 0;
      }
      peer.updates = this.#updates;
    }
    for (const { until, rates, planThen } of this.#eras) {
      const end = Math.min(until, time);
      if (!(end > peer.at)) continue;
      this.#drain(scope, peer, end, rates, planThen[plan] as number);
    }
    if (time > peer.at) this.#drain(scope, peer, time, this.plan.rates, plan);
  }

  /** A copy of a peer, refilled at the rates of the base plan. */
  refilled(scope: number, peer: Peer, time: number): Peer {
    const copy = { ...peer, used: [...peer.used] };
    this.refill(scope, copy, 0, time);
    return copy;
  }

  /** Refills a saved peer up to the last update that put rules in used slots. */
  settle(scope: number, peer: Peer): void {
    if (peer.at < this.#earliest) this.refill(scope, peer, 0, this.#earliest);
  }

  /** The seconds until a slot has nothing used, at the rate of the base plan. */
  secondsUntilUnused(scope: number, slot: number, used: number): number {
    const rate = this.plan.rates[scope * MAX_RULES + slot] as number;
    return rate === 0 ? 0 : used / rate;
  }

  secondsUntilFresh(scope: number, peer: Peer, time: number): number {
    const { used } = this.refilled(scope, peer, time);
    return Math.max(...used.map((tokens, slot) => this.secondsUntilUnused(scope, slot, tokens)));
  }

  #drain(scope: number, peer: Peer, end: number, rates: Float64Array, plan: number): void {
    const seconds = elapsed(end, peer.at);
    const row = (plan * this.#scopes + scope) * MAX_RULES;
    for (let slot = 0; slot < MAX_RULES; slot += 1) {
      const left = (peer.used[slot] as number) - seconds * (rates[row + slot] as number);
      peer.used[slot] = left > 0 ? left : 0;
    }
    peer.at = end;
  }
}

/** The next larger double. */
function nextUp(value: number): number {
  const double = Float64Array.of(value === 0 ? 0 : value);
  const bits = new BigInt64Array(double.buffer);
  bits[0] = (bits[0] as bigint) + (value < 0 ? -1n : 1n);
  return double[0] as number;
}
