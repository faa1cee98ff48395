// The fields of a response that tell of a limit. They say what formatRateLimitHeaders would, whose words
// are taken for what never changes; what does is written here, since a whole statement costs a response
// some microseconds. Of several policies one response tells of all. Names are in lower case, as those who look
// fields up have them: Node and Fastify would make it of each, for each response.

import { type Draft, formatRateLimitHeaders, type RateLimitStatement } from '../headers/format.js';
import type { Left, Policy } from './policy.js';

/** Puts a field on a response. */
export type SetField<Target> = (target: Target, name: string, value: string | number) => void;

/** What was said of a response so far. */
interface Statement {
  readonly policy: NamedPolicy;
  readonly left: Left;
  readonly before: Statement | undefined;
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
    this.#constant = drafts.flatMap((draft) => fieldsOf({ policies: [this.#policy] }, draft));
    this.#writers = drafts.map((draft) => WRITERS[draft](this.#policy));
  }

  /** To be called before the response has begun. False if it tells of this very policy already. */
  write(target: Target, left: Left): boolean {
    const said = target as { [SAID]?: Statement };
    const before = said[SAID];
    const last: Statement = { policy: this.#policy, left, before };
    said[SAID] = last;
    if (before === undefined) {
      this.#put(target, this.#constant);
      for (const write of this.#writers) write(this.#set, target, left);
      return true;
    }
    for (const draft of this.#drafts) this.#put(target, allOf(statements(last), draft));
    return statements(before).every(({ policy }) => policy !== this.#policy);
  }

  #put(target: Target, fields: Fields): void {
    for (const [name, value] of fields) this.#set(target, name, value);
  }
}

const WRITERS: Readonly<Record<Draft, (policy: NamedPolicy) => Writer>> = {
  11({ name }) {
    const item = quotedName(name);
    return (put, target, left) =>
      put(target, 'ratelimit', `${item};r=${left.remaining};t=${reset(left, 11)}`);
  },
  7({ quota }) {
    const limit = `limit=${Math.floor(quota)}`;
    return (put, target, left) =>
      put(target, 'ratelimit', `${limit}, remaining=${left.remaining}, reset=${reset(left, 7)}`);
  },
  6({ quota }) {
    const limit = Math.floor(quota);
    return (put, target, left) => {
      put(target, 'ratelimit-limit', limit);
      put(target, 'ratelimit-remaining', left.remaining);
      put(target, 'ratelimit-reset', reset(left, 6));
    };
  },
  legacy({ quota }) {
    const limit = Math.floor(quota);
    return (put, target, left) => {
      put(target, 'x-ratelimit-limit', limit);
      put(target, 'x-ratelimit-remaining', left.remaining);
      put(target, 'x-ratelimit-reset', Math.ceil(Date.now() / 1000 + reset(left, 'legacy')));
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

/** From the first. */
function statements(last: Statement | undefined): Statement[] {
  return last === undefined ? [] : [...statements(last.before), last];
}

/** All that was said, in the words of one draft. */
function allOf(said: readonly Statement[], draft: Draft): Fields {
  const policies = said.map(({ policy }) => policy);
  const limits = said.map(({ policy: { name, quota }, left }) => ({
    name,
    limit: quota,
    remaining: left.remaining,
    resetSeconds: reset(left, draft),
  }));
  return fieldsOf({ policies, limits }, draft);
}

function fieldsOf(info: RateLimitStatement, draft: Draft): Fields {
  return Object.entries(formatRateLimitHeaders(info, { draft })).map(([name, value]) => [
    name.toLowerCase(),
    value,
  ]);
}
