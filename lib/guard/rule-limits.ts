// A RuleLimiter in a guard: the options `limiter`, `keys` and `classify`. It names the keys of a connection, checks that it
// connects, and opens one peer for its messages. A guard of connections and messages asks it once for each of them.

import { invalidValue } from '../common/errors.js';
import { isRecord } from '../common/kinds.js';
import { isPromise, type MaybePromise, mapMaybePromise } from '../common/maybe-promise.js';
import { callback } from '../common/options.js';
import { tryStalled, unlessStalled } from '../limiters/stalled.js';
import { isRuleLimiter } from '../limiters/verdict.js';
import type { AnyRulePeer, AnyRules } from '../rules/any-rules.js';
import { ON_ALLOW_LIST } from '../rules/scope-keys.js';
import type { Classification, Keys, RuleVerdict } from '../rules/types.js';
import { STALLED } from '../rules/verdicts.js';
import { type BucketQueues, bucketQueuesOf } from './bucket-queue.js';
import { ADDRESS, ClientScopes, CONNECTION, requireOtherScopes } from './client-scopes.js';
import type { ClientAddress } from './connection-context.js';
import { countsPerProcess, type Warn, warnOfKey } from './misuse.js';
import type { OpenRule, RuleAnswer } from './open-rule.js';
import { ruleAnswer, UNKNOWN_DELAY } from './verdicts.js';

const FIELDS = ['action', 'cost', 'keys', 'plan', 'value'];
const FIELD_NAMES = FIELDS.join(', ');

type Given = Readonly<Record<string, unknown>>;

/** The options of a guard that concern a RuleLimiter, validated. */
export class RuleLimits {
  readonly limiter: AnyRules;
  /** Whether messages are classified. */
  readonly classifies: boolean;
  readonly #keys: ((source: object) => unknown) | undefined;
  readonly #classify: ((...message: unknown[]) => unknown) | undefined;
  readonly #warn: Warn;
  readonly #scopes: ClientScopes;
  /** The last `maxMessageBytes`, as of this version of the limiter. */
  #maxBytes = Infinity;
  #maxVersion: number | undefined;

  /** @throws `ERR_LIMITER_OPTION` */
  constructor(given: Given, warn: Warn) {
    const { limiter } = given;
    if (!isRuleLimiter(limiter)) {
      const accepted =
        'a RuleLimiter or a SharedRuleLimiter (another limiter belongs in messages or in connections)';
      throw invalidValue('ERR_LIMITER_OPTION', 'limiter', limiter, accepted);
    }
    this.limiter = limiter as AnyRules;
    this.#keys = callback(given, 'keys');
    this.#classify = callback(given, 'classify');
    this.classifies = this.#classify !== undefined;
    this.#warn = warn;
    this.#scopes = new ClientScopes(this.limiter);
  }

  /** Whether the user gives keys of connections. */
  get hasKeys(): boolean {
    return this.#keys !== undefined;
  }

  /** Whether addresses are limited. */
  get limitsAddresses(): boolean {
    return this.#scopes.addressKind !== undefined;
  }

  /** Whether anything but connections is limited, and each process of a server counts for itself. */
  get isPerProcess(): boolean {
    const { limiter } = this;
    const { scopes } = limiter.context;
    return countsPerProcess(limiter) && scopes.some(({ name }) => name !== CONNECTION);
  }

  /**
   * The keys of a client before it has a connection: those of the option `keys` for `source`, and its address. Without
   * `source` only the address.
   * @throws what `keys` throws; `ERR_LIMITER_KEY` for a result that is no keys.
   */
  keysOf({ address, key, isTransient }: ClientAddress, source: object | undefined): Keys {
    const given = source === undefined ? undefined : this.#keys?.(source);
    const own = ownKeys(given, 'the result of keys');
    if (own !== undefined) {
      for (const { name, kind } of this.limiter.context.scopes) {
        if (kind === 'text') warnOfKey(own[name], this.#warn);
      }
    }
    if (isTransient || !this.limitsAddresses) return own ?? {};
    return { ...own, [ADDRESS]: this.#scopes.addressKind === 'address' ? address : key };
  }

  /** Checks that a client connects, and charges it. @throws (or rejects with) the errors of `RuleLimiter.check` */
  connect(keys: Keys): MaybePromise<RuleVerdict> {
    return this.limiter.checkBytes(0, keys, undefined, 'connect');
  }

  /** Whether one of the keys is on an allow list. @throws `ERR_LIMITER_KEY` */
  allows(keys: Keys): boolean {
    return this.limiter.context.resolved(keys).listed === ON_ALLOW_LIST;
  }

  /**
   * Checks a client that connects with more keys than those with which `connect` has allowed it. It pays once, and what it
   * has paid already refuses it no second time. If it is refused, what it has paid stays paid.
   * @throws (or rejects with) the errors of `RuleLimiter.check`
   */
  connectWithMore(allowed: Keys, keys: Keys): MaybePromise<RuleVerdict> {
    const { limiter } = this;
    const charge = () =>
      unlessStalled(() => limiter.charge(allowed, undefined, 'connect'), undefined);
    const connect = (): MaybePromise<RuleVerdict> => {
      let verdict: MaybePromise<RuleVerdict>;
      try {
        verdict = this.connect(keys);
      } catch (error) {
        ignoreRejection(charge());
        throw error;
      }
      if (!isPromise(verdict)) {
        if (verdict.outcome !== 'allow') ignoreRejection(charge());
        return verdict;
      }
      return verdict.then(
        (verdict) => {
          if (verdict.outcome !== 'allow') ignoreRejection(charge());
          return verdict;
        },
        (error) => {
          ignoreRejection(charge());
          throw error;
        },
      );
    };
    const refunded = unlessStalled(() => limiter.refund(allowed, undefined, 'connect'), undefined);
    // Without a store nothing can be given back, and the failure policy decides.
    return isPromise(refunded) ? refunded.then(connect, connect) : connect();
  }

  /** What `connect` would return, without charging or counting anything. */
  peekConnect(keys: Keys): MaybePromise<RuleVerdict> {
    return unlessStalled(() => {
      const peek = this.limiter.peek(keys, undefined, 'connect');
      return mapMaybePromise(peek, ({ verdict }) => verdict);
    }, STALLED);
  }

  /** The key of a scope, of a client before it has a connection; undefined if it has none or the scope is single. */
  keyIn(scope: string | null, keys: Keys): string | undefined {
    return scope === null ? undefined : this.limiter.open(keys).keyIn(scope);
  }

  /** `bytesOf` is the length of a message. @throws `ERR_LIMITER_KEY` */
  open<Data, Meta>(
    connection: string,
    keys: Keys,
    bytesOf: (data: Data, meta: Meta) => number,
  ): OpenRuleLimiter<Data, Meta> {
    const own = this.#scopes.hasConnection ? { [CONNECTION]: connection } : undefined;
    return new OpenRuleLimiter(this.limiter, connection, { ...keys, ...own }, own, bytesOf);
  }

  /**
   * Calls `classify`. Call it only if `classifies`.
   * @throws what it throws; `ERR_LIMITER_OPTION` or `ERR_LIMITER_KEY` for a result that is no classification.
   */
  classify(...message: unknown[]): Classification | undefined {
    const given = this.#classify?.(...message);
    if (given === undefined) return undefined;
    const what = 'the result of classify';
    if (!isRecord(given)) {
      const accepted = `undefined or an object with ${FIELD_NAMES}`;
      throw invalidValue('ERR_LIMITER_OPTION', what, given, accepted);
    }
    for (const name in given) {
      if (FIELDS.includes(name) || !Object.hasOwn(given, name)) continue;
      throw invalidValue('ERR_LIMITER_OPTION', `a field of ${what}`, name, `one of ${FIELD_NAMES}`);
    }
    const { action, cost, keys, plan, value } = given;
    return { action, cost, keys: ownKeys(keys, 'keys of classify'), plan, value } as Classification;
  }

  /**
   * The length in bytes of the longest message that the limiter can allow now, whatever its plan and its classification;
   * Infinity without a bound. O(1) but for the first call after an update, since each connection asks.
   */
  get maxMessageBytes(): number {
    const { context } = this.limiter;
    if (this.#maxVersion !== context.version) {
      const action = this.classifies ? undefined : 'message';
      this.#maxBytes = Math.floor(context.largestCost('bytes', action, [CONNECTION, ADDRESS]));
      this.#maxVersion = context.version;
    }
    return this.#maxBytes;
  }
}

/** The RuleLimiter as one connection has opened it. */
export class OpenRuleLimiter<Data, Meta> implements OpenRule<Data, Meta> {
  /** The key of the connection. */
  readonly key: string;
  readonly peer: AnyRulePeer;
  readonly #limiter: AnyRules;
  readonly #queues: BucketQueues;
  /** The keys that only this connection uses. */
  readonly #own: Keys | undefined;
  readonly #bytesOf: (data: Data, meta: Meta) => number;
  /** The last plan of a message that the limiter has known. */
  #knownPlan: string | undefined;

  constructor(
    limiter: AnyRules,
    key: string,
    keys: Keys,
    own: Keys | undefined,
    bytesOf: (data: Data, meta: Meta) => number,
  ) {
    this.key = key;
    this.peer = limiter.open(keys);
    this.peer.restrict(requireAssignable);
    this.#limiter = limiter;
    this.#queues = bucketQueuesOf(limiter);
    this.#own = own;
    this.#bytesOf = bytesOf;
  }

  check(
    data: Data,
    meta: Meta,
    classified: Classification | undefined,
    mustQueue: boolean,
  ): MaybePromise<RuleAnswer | undefined> {
    const { peer } = this;
    const bytes = this.#bytesOf(data, meta);
    const message = classified?.plan === undefined ? classified : this.#withKnownPlan(classified);
    if (mustQueue && !this.#queues.isEmpty) {
      const queued = this.#behindOthers(bytes, message);
      if (queued !== undefined) return queued;
    }
    const verdict = peer.checkMessage(bytes, message);
    if (isPromise(verdict)) return verdict.then((known) => this.#answerTo(known, message));
    return this.#answerTo(verdict, message);
  }

  delayOf(data: Data, meta: Meta, classified: Classification | undefined): number {
    const { peer } = this;
    if (peer.peekMessage === undefined) return 0;
    const message = classified?.plan === undefined ? classified : this.#withKnownPlan(classified);
    const bytes = this.#bytesOf(data, meta);
    const peek = () => peer.peekMessage?.(bytes, message) ?? STALLED;
    const { outcome, delaySeconds } = unlessStalled(peek, STALLED);
    return outcome === 'delay' ? delaySeconds : 0;
  }

  /** Not the keys of other scopes: without its violations and its ban an address could start again. */
  close(): void {
    const own = this.#own;
    if (own !== undefined) tryStalled(() => this.#limiter.removePeer(own));
  }

  /** Without a plan that an update has removed since: the message gets the plan of the peer. */
  #withKnownPlan(message: Classification): Classification {
    const { plan } = message;
    if (this.#limiter.context.hasPlan(plan as string)) this.#knownPlan = plan;
    else if (plan === this.#knownPlan) return { ...message, plan: undefined };
    return message;
  }

  #behindOthers(bytes: number, message: Classification | undefined): RuleAnswer | undefined {
    const queues = this.#queues;
    const isAwaited = (rule: string, key: string) => queues.hasWaiters(rule, key);
    const found = this.peer.findAwaited(queues.rules, isAwaited, bytes, message);
    if (found === undefined) return undefined;
    const { rule, scope, key } = found;
    const answer = { ...UNKNOWN_DELAY, rule, scope };
    return { answer, isDenied: false, key: key || this.key, bucket: { queues, rule, key } };
  }

  #answerTo(verdict: RuleVerdict, message: Classification | undefined): RuleAnswer | undefined {
    if (verdict.outcome === 'allow' && verdict.warning === null) return undefined;
    const { rule, scope } = verdict;
    const key = scope === null ? undefined : this.peer.keyIn(scope, message?.keys);
    return {
      answer: ruleAnswer(verdict),
      isDenied: verdict.outcome === 'denied',
      key: key ?? this.key,
      bucket: { queues: this.#queues, rule: rule ?? '', key: key ?? '' },
    };
  }
}

/** Keys that connections get later, at login. @throws `ERR_LIMITER_KEY` */
function requireAssignable(keys: Keys): void {
  requireOtherScopes(keys, 'keys of assign', 'the guard');
}

/** What has failed because the store does not answer needs no other report: its limiter reports that. */
function ignoreRejection(done: unknown): void {
  if (isPromise(done)) done.then(undefined, () => {});
}

/** @throws `ERR_LIMITER_OPTION` */
export function readRuleLimits(given: Given, warn: Warn): RuleLimits | undefined {
  if (given['limiter'] !== undefined) return new RuleLimits(given, warn);
  for (const name of ['keys', 'classify']) {
    if (given[name] === undefined) continue;
    throw invalidValue('ERR_LIMITER_OPTION', name, given[name], 'absent without limiter');
  }
  return undefined;
}

/** A copy of keys that a user's function returned. @throws `ERR_LIMITER_KEY` */
function ownKeys(given: unknown, what: string): Keys | undefined {
  if (given === undefined) return undefined;
  if (!isRecord(given))
    throw invalidValue('ERR_LIMITER_KEY', what, given, 'an object by names of scopes');
  const keys = { ...given } as Keys;
  requireOtherScopes(keys, what, 'the guard');
  return keys;
}
