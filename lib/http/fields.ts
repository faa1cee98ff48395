// The fields of a response that tell of a limit. They say what formatRateLimitHeaders would, whose words
// are taken for what never changes; what does is written here, since a whole statement costs a response
// some microseconds. Of several policies one response tells of all.

import { type Draft, formatRateLimitHeaders } from '../headers/format.js';
import type { Left, Policy } from './policy.js';

/** Puts a field on a response. */
export type SetField<Target> = (target: Target, name: string, value: string | number) => void;

/** What was said of a response so far. */
interface Statement {
  readonly policy: NamedPolicy;
  readonly left: Left;
}

interface NamedPolicy {
  readonly name: string;
  readonly quota: number;
  readonly windowSeconds: number | null;
}

type Fields = readonly (readonly [name: string, value: string])[];

/** Puts on a response what is left of a policy. */
type Writer = <Target>(put: SetField<Target>, target: Target, left: Left) => void;

const SAID = Symbol('what was said of rate limits');

/** Longer waits are told as this many seconds: 2^31 - 1, 68 years. */
const MOST_SECONDS = 2_147_483_647;

export class FieldWriter<Target extends object> {
  readonly #policy: NamedPolicy;
  readonly #drafts: readonly Draft[];
  readonly #set: SetField<Target>;
  /** Of each draft: fields that are always the same, and how the others are written. */
  readonly #constant: Fields;
  readonly #writers: readonly Writer[];

  /** @throws `ERR_LIMITER_OPTION` where a draft cannot say what the policy is. */
  constructor(
    name: string,
    { quota, windowSeconds }: Policy,
    drafts: readonly Draft[],
    set: SetField<Target>,
  ) {
    this.#policy = { name, quota, windowSeconds };
    this.#drafts = drafts;
    this.#set = set;
    this.#constant = drafts.flatMap((draft) =>
      Object.entries(formatRateLimitHeaders({ policies: [this.#policy] }, { draft })),
    );
    this.#writers = drafts.map((draft) => WRITERS[draft](this.#policy));
  }

  /** To be called before the response has begun. */
  write(target: Target, left: Left): void {
    if (this.#drafts.length === 0) return;
    const said = target as { [SAID]?: Statement[] };
    const statement = { policy: this.#policy, left };
    if (said[SAID] === undefined) {
      said[SAID] = [statement];
      this.#put(target, this.#constant);
      for (const write of this.#writers) write(this.#set, target, left);
    } else {
      said[SAID].push(statement);
      for (const draft of this.#drafts) this.#put(target, fieldsOf(said[SAID], draft));
    }
  }

  #put(target: Target, fields: Fields): void {
    for (const [name, value] of fields) this.#set(target, name, value);
  }
}

const WRITERS: Readonly<Record<Draft, (policy: NamedPolicy) => Writer>> = {
  11({ name }) {
    const item = quotedName(name);
    return (put, target, left) =>
      put(target, 'RateLimit', `${item};r=${left.remaining};t=${reset(left, 11)}`);
  },
  7({ quota }) {
    const limit = `limit=${Math.floor(quota)}`;
    return (put, target, left) =>
      put(target, 'RateLimit', `${limit}, remaining=${left.remaining}, reset=${reset(left, 7)}`);
  },
  6({ quota }) {
    const limit = Math.floor(quota);
    return (put, target, left) => {
      put(target, 'RateLimit-Limit', limit);
      put(target, 'RateLimit-Remaining', left.remaining);
      put(target, 'RateLimit-Reset', reset(left, 6));
    };
  },
  legacy({ quota }) {
    const limit = Math.floor(quota);
    return (put, target, left) => {
      put(target, 'X-RateLimit-Limit', limit);
      put(target, 'X-RateLimit-Remaining', left.remaining);
      put(target, 'X-RateLimit-Reset', Math.ceil(Date.now() / 1000 + reset(left, 'legacy')));
    };
  },
};

/**
 * In the drafts a reset is when there is more, which a Retry-After must not come before; X-RateLimit-Reset
 * is known as the time at which everything is there again.
 */
function reset({ moreSeconds, fullSeconds }: Left, draft: Draft): number {
  return wholeSeconds(draft === 'legacy' ? fullSeconds : moreSeconds);
}

/** Rounded up, and bounded. */
export function wholeSeconds(seconds: number): number {
  return Math.min(Math.ceil(seconds), MOST_SECONDS);
}

/** The name as an item: what comes before the first parameter of its policy. */
function quotedName(name: string): string {
  const { 'RateLimit-Policy': text = '' } = formatRateLimitHeaders({
    policies: [{ name, quota: 0 }],
  });
  return text.slice(0, text.lastIndexOf(';q='));
}

/** All that was said, in the words of one draft. */
function fieldsOf(said: readonly Statement[], draft: Draft): Fields {
  const policies = said.map(({ policy }) => policy);
  const limits = said.map(({ policy: { name, quota }, left }) => ({
    name,
    limit: quota,
    remaining: left.remaining,
    resetSeconds: reset(left, draft),
  }));
  return Object.entries(formatRateLimitHeaders({ policies, limits }, { draft }));
}
