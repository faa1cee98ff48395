// Punishments stores the levels and bans of offenders with either. Counterpart of native/limiters/rules/offenders.h.

import { elapsed, NEVER } from '../../../tables/arithmetic.js';
import { type Place, Table } from '../../../tables/table.js';
import type { RuleBanConfig } from '../../rules.js';

// Doubles of a punishment: the level that leads to bans and the instant of its last change (NEVER without one), the ban level, the end of
// the last ban (NEVER without one), and the position in the order of offences.
const DOUBLES = 5;
export const LEVEL = 0;
export const LEVEL_AT = 1;
export const BAN_LEVEL = 2;
export const END = 3;
export const ORDER = 4;

export class Punishments extends Table {
  constructor() {
    super(DOUBLES);
  }

  insert(key: string, order: number): void {
    const place = this.add(key, undefined);
    this.set(place, LEVEL, 0);
    this.set(place, LEVEL_AT, NEVER);
    this.set(place, BAN_LEVEL, 0);
    this.set(place, END, NEVER);
    this.set(place, ORDER, order);
  }

  get(place: Place, field: number): number {
    return this.doubles[place * DOUBLES + field] as number;
  }

  set(place: Place, field: number, value: number): void {
    this.doubles[place * DOUBLES + field] = value;
  }

  /** The level as of now. Without a policy nothing drains. */
  level(place: Place, policy: RuleBanConfig | undefined, now: number): number {
    const level = this.get(place, LEVEL);
    if (policy === undefined) return level;
    const seconds = elapsed(now, this.get(place, LEVEL_AT));
    const left = level - seconds * (policy.violations / policy.withinSeconds);
    return left > 0 ? left : 0;
  }

  /** The ban level without what is forgotten by now. */
  banLevel(place: Place, { forgetAfterSeconds }: RuleBanConfig, now: number): number {
    const banLevel = this.get(place, BAN_LEVEL);
    if (forgetAfterSeconds === Infinity) return banLevel;
    const seconds = elapsed(now, this.get(place, END));
    return Math.max(0, banLevel - Math.floor(seconds / forgetAfterSeconds));
  }
}
