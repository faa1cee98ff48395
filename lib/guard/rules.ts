// The limits on messages: for each rule its limiter, the key of the bucket, and the cost. Each connection opens the
// rules once, so that a message finds its buckets without a lookup by key.

import { invalidValue } from '../common/errors.js';
import type { MaybePromise } from '../common/maybe-promise.js';
import { readOptions } from '../common/options.js';
import { type CheckResult, type Peer, RateLimitAction } from '../common/types.js';
import { type AsyncLimiter, isAsyncLimiter, openAsync } from '../limiters/async-limiter.js';
import { forget } from '../limiters/stalled.js';
import { type AnyLimiter, openPeer, requireLimiter } from '../limiters/verdict.js';
import type { AnyRulePeer } from '../rules/any-rules.js';
import { type BucketQueues, bucketQueuesOf } from './bucket-queue.js';
import type { ConnectionContext } from './connection-context.js';
import { type Warn, warnOfKey } from './misuse.js';
import type { OpenRule, RuleAnswer } from './open-rule.js';
import type { RuleLimits } from './rule-limits.js';
import { answerOf, UNKNOWN_DELAY } from './verdicts.js';

/** A limit on messages. `Cost` is the type of a cost function, `Of` are the arguments of a key function. */
export interface MessageRule<Cost, Of extends unknown[]> {
  /**
   * Any of the three limiters, or a SharedRateLimiter. The guard calls `checkMessage` of a DirectConnectionRateLimiter. While a
   * SharedRateLimiter waits for its store, the connection's further messages wait in order, whatever `onDelay` says.
   */
  limiter: AnyLimiter | AsyncLimiter;
  /**
   * The bucket that messages take tokens from:
   * - `'connection'` (the default): a bucket for each connection, removed when the connection closes;
   * - `'address'`: one bucket for all connections from an address; if the limiter bans an address, new connections
   *   from it are refused;
   * - a function: the bucket of the key that it returns. It is called once for each connection. The guard does not
   *   remove its keys from the limiter.
   */
  key?: 'connection' | 'address' | ((...of: Of) => string) | undefined;
  /**
   * The tokens that a message takes. Default 1.
   * - `'bytes'`: the length of the message, at least 1. A message longer than the burst closes the connection before
   *   it has been received completely.
   * - A function: it returns a finite number of at least 0. For an OrderbookRateLimiter, 0 means that the message is
   *   not a request. If the function throws, the connection is closed and `onError` receives the error.
   */
  cost?: 'bytes' | Cost | undefined;
}

/** A rule with its options read and checked. */
export interface Rule<Cost, Of extends unknown[]> {
  readonly limiter: AnyLimiter | AsyncLimiter;
  readonly key: 'connection' | 'address' | ((...of: Of) => string);
  readonly cost: 'bytes' | Cost | undefined;
  readonly warn: Warn;
}

/** The cost of a message; undefined if the rule does not apply to it. */
export type CostOf<Data, Meta> = (data: Data, meta: Meta) => number | undefined;

/** @throws `ERR_LIMITER_OPTION` */
export function readRules<Cost, Of extends unknown[]>(
  messages: unknown,
  warn: Warn,
): Rule<Cost, Of>[] {
  if (messages === undefined) return [];
  return (Array.isArray(messages) ? messages : [messages]).map((rule) =>
    readRule<Cost, Of>(rule, warn),
  );
}

function readRule<Cost, Of extends unknown[]>(rule: unknown, warn: Warn): Rule<Cost, Of> {
  const given = readOptions('a rule of messages', rule, ['limiter', 'key', 'cost']);
  const { limiter, key = 'connection', cost } = given;
  requireLimiter(limiter, 'the limiter of messages');
  if (key !== 'connection' && key !== 'address' && typeof key !== 'function') {
    throw invalidValue('ERR_LIMITER_OPTION', 'key', key, "'connection', 'address' or a function");
  }
  if (cost !== undefined && cost !== 'bytes' && typeof cost !== 'function') {
    throw invalidValue('ERR_LIMITER_OPTION', 'cost', cost, "'bytes' or a function");
  }
  return { limiter, key: key as Rule<Cost, Of>['key'], cost: cost as Cost, warn };
}

/** The connection for which a rule is opened. @internal */
export interface RuleContext<Of extends unknown[]> {
  readonly connection: Pick<ConnectionContext, 'key' | 'client'>;
  /** The arguments of the key function. */
  readonly of: Of;
}

/** The limits on messages as one connection has opened them. @internal */
export interface OpenMessageLimits<Data, Meta> {
  readonly rules: readonly OpenRule<Data, Meta>[];
  /** The peer of the RuleLimiter. */
  readonly peer: AnyRulePeer | undefined;
}

/** All limits of a guard on messages. @internal */
export interface MessageLimits<Cost, Of extends unknown[]> {
  readonly rules: readonly Rule<Cost, Of>[];
  /** The RuleLimiter. */
  readonly limits: RuleLimits | undefined;
}

/**
 * Opens all limits for a connection, the RuleLimiter first.
 * @throws what a key function throws; `ERR_LIMITER_KEY` if its result is not a string.
 * @internal
 */
export function openLimits<Data, Meta, Cost, Of extends unknown[]>(
  { rules, limits }: MessageLimits<Cost, Of>,
  context: RuleContext<Of>,
  costOf: (cost: Rule<Cost, Of>['cost']) => CostOf<Data, Meta>,
  bytesOf: (data: Data, meta: Meta) => number,
): OpenMessageLimits<Data, Meta> {
  const listed = rules.map((rule) => openRule(rule, context, costOf(rule.cost)));
  const { key, client } = context.connection;
  const first = limits?.open(key, client.keys, bytesOf);
  return { rules: first === undefined ? listed : [first, ...listed], peer: first?.peer };
}

function openRule<Data, Meta, Cost, Of extends unknown[]>(
  { limiter, key, warn }: Rule<Cost, Of>,
  { connection, of }: RuleContext<Of>,
  cost: CostOf<Data, Meta>,
): OpenRule<Data, Meta> {
  const { client } = connection;
  const isTransient = key === 'connection' || (key === 'address' && client.isTransient);
  const text = key === 'connection' ? connection.key : key === 'address' ? client.key : key(...of);
  if (typeof key === 'function') warnOfKey(text, warn);
  return new OpenMessageRule(limiter, text, isTransient, cost);
}

/** A rule of the list `messages`. */
class OpenMessageRule<Data, Meta> implements OpenRule<Data, Meta> {
  readonly #limiter: AnyLimiter | AsyncLimiter;
  readonly #peer: Peer<MaybePromise<CheckResult>>;
  readonly #queues: BucketQueues;
  readonly #isTransient: boolean;
  readonly #cost: CostOf<Data, Meta>;

  /** `isTransient`: whether only this connection uses the key. */
  constructor(
    limiter: AnyLimiter | AsyncLimiter,
    key: string,
    isTransient: boolean,
    cost: CostOf<Data, Meta>,
  ) {
    this.#limiter = limiter;
    this.#peer = isAsyncLimiter(limiter) ? openAsync(limiter, key) : openPeer(limiter, key);
    this.#queues = bucketQueuesOf(limiter);
    this.#isTransient = isTransient;
    this.#cost = cost;
  }

  get key(): string {
    return this.#peer.key;
  }

  check(
    data: Data,
    meta: Meta,
    _: unknown,
    mustQueue: boolean,
  ): MaybePromise<RuleAnswer | undefined> {
    const tokens = this.#cost(data, meta);
    if (tokens === undefined) return undefined;
    const peer = this.#peer;
    const queues = this.#queues;
    if (mustQueue && !queues.isEmpty && tokens > 0 && queues.hasWaiters('', peer.key)) {
      return this.#refusal(UNKNOWN_DELAY);
    }
    const result = peer.check(tokens);
    // Not isPromise: V8 is faster with this test of an array.
    if (Array.isArray(result)) return this.#answer(result as unknown as CheckResult);
    return (result as PromiseLike<CheckResult>).then((resolved) => this.#answer(resolved));
  }

  /** These limiters change only by `clear`, and then no bucket is empty. */
  delayOf(): number {
    return 0;
  }

  close(): void {
    if (this.#isTransient) forget(this.#limiter, this.key);
  }

  #answer(result: CheckResult): RuleAnswer | undefined {
    return result[0] === RateLimitAction.ALLOW ? undefined : this.#refusal(answerOf(result));
  }

  #refusal(answer: RuleAnswer['answer']): RuleAnswer {
    const { key } = this;
    return { answer, isDenied: false, key, bucket: { queues: this.#queues, rule: '', key } };
  }
}

/**
 * The length in bytes of the longest message that can pass all rules by bytes; Infinity without such a rule.
 * @internal
 */
export function maxMessageBytes<Cost, Of extends unknown[]>({
  rules,
  limits,
}: MessageLimits<Cost, Of>): number {
  const bursts = rules.map(({ limiter, cost }) => (cost === 'bytes' ? burstOf(limiter) : Infinity));
  return Math.floor(Math.min(limits?.maxMessageBytes ?? Infinity, ...bursts));
}

/** Tokens of a full bucket. Infinity for an OrderbookRateLimiter, which counts requests, whatever their cost. */
function burstOf(limiter: AnyLimiter | AsyncLimiter): number {
  if ('messageBurst' in limiter) return limiter.messageBurst;
  return 'burstLimit' in limiter ? limiter.burstLimit : Infinity;
}
