// The option `shared`: shared limits and bans. This file does not import relay-limiter/redis.

import { invalidValue, show } from '../common/errors.js';
import { hasMethods, isRecord } from '../common/kinds.js';
import type { BansInForce } from '../common/types.js';

/** What all processes of a shared limit have done, as `SharedRateLimiter.getFleetStats` returns it. */
export interface FleetFigures {
  readonly nodes: number;
  readonly verdicts: Readonly<Record<'allow' | 'delay' | 'disconnect', number>>;
  /** The peers that were refused most, the worst one first. */
  readonly offenders: readonly { readonly key: string; readonly refusals: number }[];
}

/** What all processes of shared rules have done, as `SharedRuleLimiter.getFleetStats` returns it. */
export interface RuleFleetFigures {
  readonly nodes: number;
  readonly outcomes: Readonly<Record<'allow' | 'delay' | 'banned' | 'denied', number>>;
  /** The keys that were refused most, the worst one first. */
  readonly offenders: readonly {
    readonly scope: string;
    readonly key: string;
    readonly refusals: number;
  }[];
}

/** A `SharedRateLimiter` or a `SharedRuleLimiter`. */
export interface WatchedFleet {
  /** Makes one call of the store. */
  getFleetStats(): Promise<FleetFigures | RuleFleetFigures>;
}

/** `SharedBans`. */
export interface WatchedSharedBans {
  /** Returns the bans of all processes that end last. Makes no call of the store. */
  getBans(most?: number): BansInForce;
  /** Shares the bans of a limiter. The dashboard does not call it: it tells shared bans from other objects. */
  share(limiter: never): unknown;
}

/** Shared limits and bans by the names that the page shows. */
export type NamedFleets = Readonly<Record<string, WatchedFleet | WatchedSharedBans>>;

/** @internal */
export interface Fleets {
  readonly limits: readonly (readonly [name: string, limit: WatchedFleet])[];
  readonly bans: readonly (readonly [name: string, bans: WatchedSharedBans])[];
}

/** Reads the option `shared`. @throws `ERR_LIMITER_OPTION` @internal */
export function namedFleets(given: unknown): Fleets {
  if (given !== undefined && !isRecord(given)) {
    const accepted = 'an object with shared limits and bans, by name';
    throw invalidValue('ERR_LIMITER_OPTION', 'shared', given, accepted);
  }
  const limits: [string, WatchedFleet][] = [];
  const bans: [string, WatchedSharedBans][] = [];
  for (const [name, shared] of Object.entries(given ?? {})) {
    if (isFleet(shared)) limits.push([name, shared]);
    else if (isSharedBans(shared)) bans.push([name, shared]);
    else {
      const accepted = 'a SharedRateLimiter, a SharedRuleLimiter or SharedBans';
      throw invalidValue('ERR_LIMITER_OPTION', `shared[${show(name)}]`, shared, accepted);
    }
  }
  return { limits, bans };
}

function isFleet(value: unknown): value is WatchedFleet {
  return hasMethods(value, 'getFleetStats');
}

function isSharedBans(value: unknown): value is WatchedSharedBans {
  return hasMethods(value, 'getBans', 'share');
}
