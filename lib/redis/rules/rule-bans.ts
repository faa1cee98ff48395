// The bans of a SharedRuleLimiter by scope, as SharedBans knows them: a ban's key is the name of the scope and the key.

import type { BansInForce } from '../../common/types.js';
import type { ScopeSpec } from '../../rules/sections.js';
import { SharedBans } from '../bans/shared-bans.js';
import type { SharedRuleConfig } from './options.js';
import { part } from './rule-keys.js';
import { FOREVER_SECONDS } from './rule-scripts.js';

/** The ban of a check: how long it still holds, and its scope. */
export interface BanInForce {
  readonly seconds: number;
  readonly scope: string;
}

export class RuleBans {
  readonly shared: SharedBans;
  readonly #scopes: readonly ScopeSpec[];
  readonly #prefixes: readonly string[];

  constructor({ client, prefix, deadlineSeconds, maxPeers, clock, scopes }: SharedRuleConfig) {
    this.shared = new SharedBans({
      client,
      prefix: `${prefix}:rules`,
      deadlineSeconds,
      maxPeers,
      clock,
    });
    this.#scopes = scopes;
    this.#prefixes = scopes.map(({ name }) => `${part(name)}:`);
  }

  /** The longest ban in force of the keys of a check. */
  find(ids: readonly (string | undefined)[], mask: number): BanInForce | undefined {
    if (!this.shared.knowsBans) return undefined;
    let longest: BanInForce | undefined;
    for (const { index, kind, name } of this.#scopes) {
      if (kind === 'single' || ((mask >> index) & 1) === 0) continue;
      const seconds = this.secondsLeft(index, ids[index] ?? '');
      if (seconds > (longest?.seconds ?? 0)) longest = { seconds, scope: name };
    }
    return longest;
  }

  /** Infinity for ever, 0 without a ban. */
  secondsLeft(scope: number, id: string): number {
    return toSeconds(this.shared.banSecondsLeft(this.#id(scope, id)));
  }

  ban(scope: number, id: string, seconds: number, violations = 0): void {
    this.shared.ban(this.#id(scope, id), Math.min(seconds, FOREVER_SECONDS), violations);
  }

  /** Ends a ban in force; false if the key is not banned. */
  lift(scope: number, id: string): boolean {
    if (this.secondsLeft(scope, id) === 0) return false;
    this.shared.lift(this.#id(scope, id));
    return true;
  }

  /** As `RulesCore.longestBans`. A key of which this process knows only a digest is counted, but not listed. */
  longest(scope: number, most: number): BansInForce {
    const prefix = this.#prefixes[scope] as string;
    const bans = this.shared
      .inForce()
      .filter(({ key }) => key.startsWith(prefix))
      .map(({ key, seconds }): [string, number] => [key.slice(prefix.length), toSeconds(seconds)]);
    bans.sort(([a, left], [b, right]) =>
      left !== right ? (left < right ? 1 : -1) : a < b ? -1 : 1,
    );
    return { count: bans.length, bans: bans.slice(0, most) };
  }

  #id(scope: number, id: string): string {
    return this.#prefixes[scope] + id;
  }
}

/** Nobody waits for more than three centuries, and the store knows no longer bans than three millenniums. */
function toSeconds(seconds: number): number {
  return seconds > FOREVER_SECONDS / 10 ? Infinity : seconds;
}
