// What the page shows as limiters: each limiter, and of a RuleLimiter the whole and then each of its scopes.

import { limiterError, show } from '../common/errors.js';
import { ifKnown, type ObservableLimiter, statsOf, type Verdicts } from '../limiters/stats.js';
import { isRules, type ObservableRules } from '../rules/observable.js';
import type { RuleStats } from '../rules/types.js';

/** A limiter with one kind of key, or a scope. */
export interface ShownLimiter {
  readonly name: string;
  readonly limiter: ObservableLimiter;
  /** The object that publishes its bans, and the scope that it publishes with them. */
  readonly owner: object;
  readonly scope?: string | undefined;
  /** The place of the whole RuleLimiter of a scope; null for a limiter. */
  readonly whole: number | null;
}

/** A RuleLimiter as a whole: it has rules and outcomes. Its peers and bans are those of its scopes. */
export interface ShownRules {
  readonly name: string;
  readonly rules: ObservableRules;
}

export type Shown = ShownLimiter | ShownRules;

/** The totals of one entry. */
export interface Totals {
  readonly verdicts: Verdicts;
  readonly tracked: number;
  readonly banned: number;
  readonly memoryBytes: number | undefined;
}

/** What a sample reads of one entry; null if its clock throws. */
export type Reading = { readonly totals: Totals; readonly stats?: RuleStats } | null;

/** @throws `ERR_LIMITER_OPTION` if a limiter has the name that a scope gets */
export function shownOf(
  named: readonly (readonly [name: string, limiter: ObservableLimiter | ObservableRules])[],
): Shown[] {
  const all: Shown[] = [];
  for (const [name, limiter] of named) {
    if (!isRules(limiter)) {
      all.push({ name, limiter, owner: limiter, whole: null });
      continue;
    }
    const whole = all.push({ name, rules: limiter }) - 1;
    for (const scope of limiter.scopeNames) {
      const view = limiter.scope(scope);
      all.push({ name: scopeTitle(name, scope), limiter: view, owner: limiter, scope, whole });
    }
  }
  const names = all.map((shown) => shown.name);
  const twice = names.find((name, i) => names.indexOf(name) < i);
  if (twice === undefined) return all;
  const message = `limiters must have other names than scopes, got ${show(twice)} twice`;
  throw limiterError(TypeError, 'ERR_LIMITER_OPTION', message);
}

/** The name of a scope on the page. */
export function scopeTitle(limiter: string, scope: string): string {
  return `${limiter} / ${scope}`;
}

/** Reads all entries, each RuleLimiter once. */
export function readAll(all: readonly Shown[]): Reading[] {
  const readings: Reading[] = [];
  for (const shown of all) readings.push(ifKnown(() => read(shown, readings)));
  return readings;
}

/** `before` has the readings of the entries before this one. */
function read(shown: Shown, before: readonly Reading[]): Reading {
  if ('rules' in shown) return wholeReading(shown.rules.getStats());
  const { limiter, whole, scope } = shown;
  if (whole === null || scope === undefined) {
    const { verdicts, trackedPeers, banned, memoryBytes } = statsOf(limiter);
    return { totals: { verdicts, tracked: trackedPeers, banned, memoryBytes } };
  }
  const stats = before[whole]?.stats?.scopes[scope];
  if (stats === undefined) return null;
  const { verdicts, peers, bans, memoryBytes } = stats;
  return { totals: { verdicts, tracked: peers, banned: bans, memoryBytes } };
}

function wholeReading(stats: RuleStats): Reading {
  const { allow, delay, banned, denied } = stats.outcomes;
  const scopes = Object.values(stats.scopes);
  const bytes = scopes.flatMap(({ memoryBytes }) => memoryBytes ?? []);
  const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
  return {
    stats,
    totals: {
      verdicts: { allow, delay, disconnect: banned + denied },
      tracked: sum(scopes.map(({ peers }) => peers)),
      banned: sum(scopes.map(({ bans }) => bans)),
      memoryBytes: bytes.length === 0 ? undefined : sum(bytes),
    },
  };
}
