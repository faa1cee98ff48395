// What a snapshot keeps of a record of the reference model of RuleLimiter, as a new limiter restores it.

import {
  freshRecord,
  levelAt,
  type ModelBans,
  RuleRates,
  type RuleRecord,
  secondsBetween,
} from './rule-records.js';

interface SavedOptions {
  readonly rates: RuleRates;
  readonly bans: Readonly<Record<string, ModelBans>>;
}

/** The state of a single scope. If nothing is saved, it is fresh. */
export function savedSingle(
  options: SavedOptions,
  scope: string,
  single: RuleRecord,
  now: number,
): RuleRecord {
  const saved = savedRecord(options, scope, single, false, now);
  if (saved === undefined) return freshRecord(-Infinity);
  new RuleRates(options.rates.rules).refill(saved, scope, 0, now);
  return { ...saved, at: now, isPending: false };
}

/** Undefined if the snapshot does not contain the record. `isNamed`: it lists the key by its text. */
export function savedRecord(
  { rates, bans }: SavedOptions,
  scope: string,
  record: RuleRecord,
  isNamed: boolean,
  now: number,
): RuleRecord | undefined {
  const saved = freshRecord(now - secondsBetween(record.at, now));
  for (const rule of rates.rules) {
    if (rule.scope === scope) saved.used.set(rule.name, rates.saved(record, rule, now));
  }
  if (!isNamed) {
    saved.isPending = true;
    return [...saved.used.values()].some((used) => used > 0) ? saved : undefined;
  }
  const { violations, banEnd, banLevel } = record;
  const policy = bans[scope];
  saved.violations = violations;
  saved.level = policy === undefined ? record.level : levelAt(record, policy, now);
  saved.banLevel = banLevel;
  saved.banEnd = banEnd > now ? now + (banEnd - now) : now - (now - banEnd);
  // Without a level or a ban there is no time of the last change.
  if (saved.level > 0 || banLevel > 0 || banEnd > -Infinity) saved.levelAt = now;
  return saved;
}
