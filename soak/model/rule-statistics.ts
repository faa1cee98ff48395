// Compares the statistics of a RuleLimiter with the reference model.

import { inspect, isDeepStrictEqual } from 'node:util';
import type { RuleLimiter, RuleScopeStats } from 'relay-limiter';
import { maxRuleMemoryBytes } from '../memory.js';
import { Difference } from './model.js';
import type { RuleModel } from './rule-model.js';
import { isBanned } from './rule-records.js';

/** @throws Difference */
export function differ(what: string, given: unknown, expected: unknown): void {
  if (isDeepStrictEqual(given, expected)) return;
  const show = (value: unknown) => inspect(value, { breakLength: Infinity, maxStringLength: 60 });
  throw new Difference(`${what}: ${show(given)}, not ${show(expected)}`);
}

/** `losses`: by scope, the least number of records with used tokens that were evicted. @throws Difference */
export function compareRuleStatistics(
  limiter: RuleLimiter,
  model: RuleModel,
  now: number,
  losses: ReadonlyMap<string, number>,
): void {
  const { outcomes, rules, scopes } = limiter.getStats();
  differ('outcomes', outcomes, model.outcomes);
  for (const [name, { checked, refused, dryRunRefused }] of Object.entries(rules)) {
    const expected = [model.checked, model.refused, model.dryRunRefused].map((counts) => {
      return counts.get(name) ?? 0;
    });
    differ(`counts of ${name}`, [checked, refused, dryRunRefused], expected);
  }
  for (const [scope, statistics] of Object.entries(scopes)) {
    const { bansBegun, refusedNewcomers, evictions, lossyEvictions, peers } = statistics;
    differ(`bansBegun of ${scope}`, bansBegun, model.bansBegun.get(scope) ?? 0);
    const refused = model.refusedNewcomers.get(scope) ?? 0;
    differ(`refusedNewcomers of ${scope}`, refusedNewcomers, refused);
    within(`lossyEvictions of ${scope}`, losses.get(scope) ?? 0, lossyEvictions, evictions);
    within(`peers of ${scope}`, 0, peers, limiter.maxPeers);
    compareBans(limiter, model, now, scope, statistics);
    if (limiter.maxPeers === Infinity) comparePeers(model, scope, statistics);
    if (limiter.engine === 'native') {
      const { memoryBytes = Number.NaN } = statistics;
      const stored = Math.max(peers, model.records(scope).size);
      within(
        `memoryBytes of ${scope}`,
        0,
        memoryBytes,
        maxRuleMemoryBytes(limiter.maxPeers, stored),
      );
    }
  }
}

function compareBans(
  limiter: RuleLimiter,
  model: RuleModel,
  now: number,
  scope: string,
  { bans, unnamedOffenders }: RuleScopeStats,
): void {
  const expected = new Map(
    [...model.records(scope)]
      .filter(([, record]) => isBanned(record, now))
      .map(([key, { banEnd }]) => [key, banEnd - now]),
  );
  differ(`bans of ${scope}`, bans, expected.size);
  const listed = limiter.getBans(scope, expected.size + 1).bans;
  for (const [key, left] of listed) differ(`a listed ban of ${scope}`, left, expected.get(key));
  within(`listed bans of ${scope}`, bans - unnamedOffenders, listed.length, bans);
}

/** In a limiter with space for all keys. */
function comparePeers(
  model: RuleModel,
  scope: string,
  { peers, totalViolations, violators, unnamedOffenders }: RuleScopeStats,
): void {
  const stored = [...model.records(scope)].filter(([, { isPending }]) => !isPending);
  differ(`peers of ${scope}`, peers, stored.length);
  const counts = stored.map(([, { violations }]) => violations);
  differ(
    `totalViolations of ${scope}`,
    totalViolations,
    counts.reduce((a, b) => a + b, 0),
  );
  for (const [key, violations] of violators) {
    differ(`violations of a violator of ${scope}`, violations, model.find(scope, key)?.violations);
  }
  const last = violators.length < 10 ? 0 : (violators.at(-1)?.[1] ?? 0);
  const worse = counts.filter((violations) => violations > last).length;
  const listed = violators.filter(([, violations]) => violations > last).length;
  within(`violators of ${scope}`, worse - unnamedOffenders, listed, worse);
}

function within(what: string, least: number, value: number, most: number): void {
  if (value >= least && value <= most) return;
  throw new Difference(`${what} is ${value}, not from ${least} to ${most}`);
}
