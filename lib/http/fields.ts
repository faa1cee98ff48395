// Writes the rate limit fields of a response. Their values equal those of formatRateLimitHeaders, which takes
// microseconds per call: it formats the constant fields once, and the fields of a response with several policies,
// which are rare. Only the fields of a single policy are formatted here. All names are in lower case; Node and
// Fastify would otherwise convert each name for each response.

import { type Draft, formatRateLimitHeaders, type RateLimitStatement } from '../headers/format.js';
import type { LimiterPolicy, QuotaState } from './policy.js';

/** Sets a field of a response. */
export type SetField<Target> = (target: Target, name: string, value: string | number) => void;

/** A policy and its state, as written to a response. A linked list, last statement first. */
interface Statement {
  readonly policy: NamedPolicy;
  readonly state: QuotaState;
  readonly previous: Statement | undefined;
}

interface NamedPolicy {
  readonly name: string;
  readonly quota: number;
  readonly windowSeconds: number | null;
}

type Fields = readonly (readonly [name: string, value: string])[];

/** Writes the fields of one draft that depend on the state. */
type StateWriter = <Target>(set: SetField<Target>, target: Target, state: QuotaState) => void;

/** A property of a response: the last statement written to it. */
const LAST_STATEMENT = Symbol('relay-limiter statement');

/** The longest wait that is sent, in seconds: 2^31 - 1, 68 years. Clients may read it into 32 bits. */
const MAX_SECONDS = 2_147_483_647;

export class FieldWriter<Target extends object> {
  readonly #policy: NamedPolicy;
  readonly #drafts: readonly Draft[];
  readonly #set: SetField<Target>;
  /** The fields of all drafts that do not depend on the state. */
  readonly #constantFields: Fields;
  readonly #writers: readonly StateWriter[];

  /** @throws `ERR_LIMITER_OPTION` if a draft cannot express the policy. */
  constructor(
    name: string,
    { quota, windowSeconds }: LimiterPolicy,
    drafts: readonly Draft[],
    set: SetField<Target>,
  ) {
    this.#policy = { name, quota, windowSeconds };
    this.#drafts = drafts;
    this.#set = set;
    this.#constantFields = drafts.flatMap((draft) => format({ policies: [this.#policy] }, draft));
    this.#writers = drafts.map((draft) => STATE_WRITERS[draft](this.#policy));
  }

  /**
   * Writes the fields, together with the statements of other policies on the same response. Call it before the
   * headers are sent. Returns false if the response has a statement of this policy already.
   */
  write(target: Target, state: QuotaState): boolean {
    const stated = target as { [LAST_STATEMENT]?: Statement };
    const previous = stated[LAST_STATEMENT];
    const last: Statement = { policy: this.#policy, state, previous };
    stated[LAST_STATEMENT] = last;
    if (previous === undefined) {
      this.#setAll(target, this.#constantFields);
      for (const write of this.#writers) write(this.#set, target, state);
      return true;
    }
    const earlier = listStatements(previous);
    for (const draft of this.#drafts) {
      this.#setAll(target, formatStatements([...earlier, last], draft));
    }
    return earlier.every(({ policy }) => policy !== this.#policy);
  }

  #setAll(target: Target, fields: Fields): void {
    for (const [name, value] of fields) this.#set(target, name, value);
  }
}

const STATE_WRITERS: Readonly<Record<Draft, (policy: NamedPolicy) => StateWriter>> = {
  11({ name }) {
    const item = quotedName(name);
    return (set, target, state) =>
      set(target, 'ratelimit', `${item};r=${state.remaining};t=${resetSeconds(state, 11)}`);
  },
  7({ quota }) {
    const limit = `limit=${Math.floor(quota)}`;
    return (set, target, state) => {
      const reset = resetSeconds(state, 7);
      set(target, 'ratelimit', `${limit}, remaining=${state.remaining}, reset=${reset}`);
    };
  },
  6({ quota }) {
    const limit = Math.floor(quota);
    return (set, target, state) => {
      set(target, 'ratelimit-limit', limit);
      set(target, 'ratelimit-remaining', state.remaining);
      set(target, 'ratelimit-reset', resetSeconds(state, 6));
    };
  },
  legacy({ quota }) {
    const limit = Math.floor(quota);
    return (set, target, state) => {
      const reset = Date.now() / 1000 + resetSeconds(state, 'legacy');
      set(target, 'x-ratelimit-limit', limit);
      set(target, 'x-ratelimit-remaining', state.remaining);
      set(target, 'x-ratelimit-reset', Math.ceil(reset));
    };
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

/** The name as a quoted item: the part of a formatted policy before its first parameter. */
function quotedName(name: string): string {
  const { 'RateLimit-Policy': text = '' } = formatRateLimitHeaders({
    policies: [{ name, quota: 0 }],
  });
  return text.slice(0, text.lastIndexOf(';q='));
}

/** First statement first. */
function listStatements(last: Statement | undefined): Statement[] {
  return last === undefined ? [] : [...listStatements(last.previous), last];
}

function formatStatements(statements: readonly Statement[], draft: Draft): Fields {
  const policies = statements.map(({ policy }) => policy);
  const limits = statements.map(({ policy: { name, quota }, state }) => ({
    name,
    limit: quota,
    remaining: state.remaining,
    resetSeconds: resetSeconds(state, draft),
  }));
  return format({ policies, limits }, draft);
}

function format(info: RateLimitStatement, draft: Draft): Fields {
  return Object.entries(formatRateLimitHeaders(info, { draft })).map(([name, value]) => [
    name.toLowerCase(),
    value,
  ]);
}
