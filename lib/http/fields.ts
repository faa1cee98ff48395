// Writes the rate limit fields of a response. Their values equal those of formatRateLimitHeaders, which takes
// microseconds per call: it formats the constant fields once, and the fields of a response to several limits, which are
// rare. Only the fields of a single limit are formatted here. All names are in lower case; Node and Fastify would
// otherwise convert each name for each response.

import type { Draft } from '../headers/format.js';
import { listChecks, type RequestCheck } from './checks.js';
import {
  type Fields,
  format,
  type LimitedPolicy,
  type NamedPolicy,
  type QuotaState,
  type StatedPolicies,
  StatedPolicy,
} from './stated.js';

/** Sets a field of a response. */
export type SetField<Target> = (target: Target, name: string, value: string | number) => void;

/** The longest wait that is sent, in seconds: 2^31 - 1, 68 years. Clients may read it into 32 bits. */
const MAX_SECONDS = 2_147_483_647;

export class FieldWriter<Target> {
  readonly #drafts: readonly Draft[];
  readonly #writers: readonly StateWriter[];
  readonly #set: SetField<Target>;

  constructor(drafts: readonly Draft[], set: SetField<Target>) {
    this.#drafts = drafts;
    this.#writers = drafts.map((draft) => STATE_WRITERS[draft]);
    this.#set = set;
  }

  /** Whether any fields are sent. */
  get writes(): boolean {
    return this.#drafts.length > 0;
  }

  /** Prepares a policy. `label`: what errors call it. @throws `ERR_LIMITER_OPTION` if the drafts cannot express its name. */
  policy(policy: NamedPolicy, label = 'the policy'): StatedPolicy {
    return new StatedPolicy(policy, this.#drafts.includes(11), label);
  }

  /** Prepares policies; undefined if no fields are sent. @throws `ERR_LIMITER_OPTION` if a draft cannot express them. */
  policies(policies: readonly StatedPolicy[], label = 'the policy'): StatedPolicies | undefined {
    if (this.#drafts.length === 0 || policies.length === 0) return undefined;
    const fields = this.#drafts.flatMap((draft) => format({ policies }, draft, label));
    return { policies, fields };
  }

  /** Writes the fields of a check, together with those of earlier checks. Call it before the headers are sent. */
  write(target: Target, check: RequestCheck): void {
    const drafts = this.#drafts;
    // The getters may ask the limiter.
    if (drafts.length === 0) return;
    const { stated, previous } = check;
    if (stated === undefined) return;
    if (previous !== undefined) {
      this.#writeAll(target, check);
      return;
    }
    this.#setAll(target, stated.fields);
    const writers = this.#writers;
    for (let i = 0; i < drafts.length; i += 1) {
      const limited = check.limitFor(drafts[i] as Draft);
      if (limited !== undefined) (writers[i] as StateWriter)(this.#set, target, limited);
    }
  }

  #writeAll(target: Target, last: RequestCheck): void {
    const checks = listChecks(last).filter(({ stated }) => stated !== undefined);
    const policies = lastOfEachName(checks, ({ stated }) => stated?.policies ?? []);
    for (const draft of this.#drafts) {
      const limits = lastOfEachName(checks, (check) => {
        const limited = check.limitFor(draft);
        return limited === undefined ? [] : [limitOf(limited, draft)];
      });
      this.#setAll(target, format({ policies, limits }, draft));
    }
  }

  #setAll(target: Target, fields: Fields): void {
    for (const [name, value] of fields) this.#set(target, name, value);
  }
}

function limitOf({ policy: { name, quota }, state }: LimitedPolicy, draft: Draft) {
  const { remaining } = state;
  return { name, limit: quota, remaining, resetSeconds: resetSeconds(state, draft) };
}

/** Several checks by one source may have the same policies: returns the last of each name. */
function lastOfEachName<Item extends { readonly name: string }>(
  checks: readonly RequestCheck[],
  itemsOf: (check: RequestCheck) => readonly Item[],
): Item[] {
  const bySource = new Map<object, Map<string, Item>>();
  for (const check of checks) {
    const byName = bySource.get(check.source) ?? new Map<string, Item>();
    bySource.set(check.source, byName);
    for (const item of itemsOf(check)) byName.set(item.name, item);
  }
  return [...bySource.values()].flatMap((byName) => [...byName.values()]);
}

/** Writes the fields of one draft that depend on the state. */
type StateWriter = <Target>(set: SetField<Target>, target: Target, limited: LimitedPolicy) => void;

const STATE_WRITERS: Readonly<Record<Draft, StateWriter>> = {
  11(set, target, { policy: { item }, state }) {
    set(target, 'ratelimit', `${item};r=${state.remaining};t=${resetSeconds(state, 11)}`);
  },
  7(set, target, { policy: { wholeQuota }, state }) {
    const reset = resetSeconds(state, 7);
    set(target, 'ratelimit', `limit=${wholeQuota}, remaining=${state.remaining}, reset=${reset}`);
  },
  6(set, target, { policy: { wholeQuota }, state }) {
    set(target, 'ratelimit-limit', wholeQuota);
    set(target, 'ratelimit-remaining', state.remaining);
    set(target, 'ratelimit-reset', resetSeconds(state, 6));
  },
  legacy(set, target, { policy: { wholeQuota }, state }) {
    const reset = Date.now() / 1000 + resetSeconds(state, 'legacy');
    set(target, 'x-ratelimit-limit', wholeQuota);
    set(target, 'x-ratelimit-remaining', state.remaining);
    set(target, 'x-ratelimit-reset', Math.ceil(reset));
  },
};

/**
 * In the drafts, a reset is the time until more quota is available, and Retry-After must not be earlier than it.
 * X-RateLimit-Reset is by convention the time at which the whole quota is available.
 */
function resetSeconds({ nextTokenSeconds, fullSeconds }: QuotaState, draft: Draft): number {
  return wholeSeconds(draft === 'legacy' ? fullSeconds : nextTokenSeconds);
}

/** Rounds up, to at most `MAX_SECONDS`. */
export function wholeSeconds(seconds: number): number {
  return Math.min(Math.ceil(seconds), MAX_SECONDS);
}
