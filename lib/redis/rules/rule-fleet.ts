// RuleFleet: what all processes of a SharedRuleLimiter have done, and the peers that they refuse most.

import type { ScopeSpec } from '../../rules/sections.js';
import type { RuleVerdict } from '../../rules/types.js';
import { FleetReport, MOST_REFUSED, type ReportContext } from '../limit/fleet-report.js';
import { mergeRefused } from '../limit/refused-peers.js';
import { part } from './rule-keys.js';
import type { RuleFleetTotals, RuleOffender } from './shared-rule-stats.js';

/** The totals of a report, in their order. */
const NAMES = ['allow', 'delay', 'banned', 'denied', 'bans', 'fallback', 'overload'] as const;
export type RuleTotalNames = (typeof NAMES)[number];

export class RuleFleet {
  readonly #scopes: readonly ScopeSpec[];
  /** What the names of peers of a scope begin with. Processes may declare scopes in another order. */
  readonly #prefixes: readonly string[];
  readonly #report: FleetReport<RuleTotalNames>;

  constructor(
    scopes: readonly ScopeSpec[],
    context: Omit<ReportContext<RuleTotalNames>, 'names' | 'owner'>,
  ) {
    this.#scopes = scopes;
    this.#prefixes = scopes.map(({ name }) => `${part(name)}:`);
    this.#report = new FleetReport({ ...context, names: NAMES, owner: 'SharedRuleLimiter' });
  }

  /** Counts a refusal for the key of the scope that has refused. */
  count({ outcome, scope }: RuleVerdict, ids: readonly (string | undefined)[]): void {
    if (outcome === 'allow' || scope === null) return;
    const spec = this.#scopes.find(({ name }) => name === scope);
    const id = spec === undefined || spec.kind === 'single' ? undefined : ids[spec.index];
    if (id !== undefined) this.#report.refused.add(`${this.#prefixes[spec?.index ?? 0]}${id}`);
  }

  /** The totals of all processes at the last report; null before the first. */
  get totals(): RuleFleetTotals | null {
    return this.#report.totals === undefined ? null : shaped(this.#report.totals);
  }

  /** @throws (rejects with) `ERR_LIMITER_STORE` */
  async read(): Promise<RuleFleetTotals & { offenders: RuleOffender[] }> {
    const { totals, refused } = await this.#report.readAll();
    const offenders = mergeRefused(refused, MOST_REFUSED).flatMap(([name, refusals]) => {
      const scope = this.#scopes.find(({ index }) =>
        name.startsWith(this.#prefixes[index] as string),
      );
      if (scope === undefined) return [];
      const key = name.slice((this.#prefixes[scope.index] as string).length);
      return [{ scope: scope.name, key, refusals }];
    });
    return { ...shaped(totals), offenders };
  }

  close(): Promise<void> {
    return this.#report.close();
  }
}

function shaped(totals: Record<RuleTotalNames, number>): RuleFleetTotals {
  const { allow, delay, banned, denied, bans, fallback, overload } = totals;
  return {
    outcomes: { allow, delay, banned, denied },
    bansBegun: bans,
    fallbackVerdicts: fallback,
    overloadVerdicts: overload,
  };
}
