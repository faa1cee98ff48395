// The rules for messages: which limiter, whose bucket, at what cost. Each connection opens them once, so
// that a message finds its buckets without a look at keys.

import { refused } from '../common/errors.js';
import { readOptions } from '../common/options.js';
import type { Peer } from '../common/types.js';
import { type AnyLimiter, openPeer, requireLimiter } from '../limiters/verdict.js';
import { type Warn, warnOfKey } from './misuse.js';
import { type Turns, turnsOf } from './turns.js';
import type { Belonging } from './visitor.js';

/** A limit on messages. `Cost` is what finds a cost, `Of` what a key of one's own is made of. */
export interface MessageRule<Cost, Of extends unknown[]> {
  /** Any of the three. A DirectConnectionRateLimiter is asked `checkMessage`. */
  limiter: AnyLimiter;
  /**
   * Whose bucket it is. `'connection'` (the default): this connection's, forgotten when it closes.
   * `'address'`: all that come from the address share it, and its bans keep out. A function: whatever it
   * returns, once for each connection; its keys are for its owner to forget.
   */
  key?: 'connection' | 'address' | ((...of: Of) => string) | undefined;
  /**
   * What a message takes. Default 1; `'bytes'`: its length, at least 1, and a longer one than the burst closes the
   * connection before it is whole; a function: a finite number of at
   * least 0. With an OrderbookRateLimiter 0 means that this message is none of its requests.
   * What the function throws closes the connection, and is told to `onError`.
   */
  cost?: 'bytes' | Cost | undefined;
}

/** A rule with its options read. */
export interface Rule<Cost, Of extends unknown[]> {
  readonly limiter: AnyLimiter;
  readonly key: 'connection' | 'address' | ((...of: Of) => string);
  readonly cost: 'bytes' | Cost | undefined;
  readonly warn: Warn;
}

/** A rule as one connection has it. */
export interface OpenRule<Data, About> {
  readonly peer: Peer;
  /** Of all that share the limiter. */
  readonly turns: Turns;
  /** Undefined where the message is none of the rule's business. */
  readonly cost: (data: Data, about: About) => number | undefined;
  /** Forgets the peer, if it was the connection's alone. */
  close(): void;
}

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
    throw refused('ERR_LIMITER_OPTION', 'key', key, "'connection', 'address' or a function");
  }
  if (cost !== undefined && cost !== 'bytes' && typeof cost !== 'function') {
    throw refused('ERR_LIMITER_OPTION', 'cost', cost, "'bytes' or a function");
  }
  return { limiter, key: key as Rule<Cost, Of>['key'], cost: cost as Cost, warn };
}

/** Who opens a rule. */
export interface Opening<Of extends unknown[]> {
  readonly belonging: Pick<Belonging, 'key' | 'visitor'>;
  readonly of: Of;
}

/** @throws what a key of one's own throws, `ERR_LIMITER_KEY` where it is no string. */
export function openRule<Data, About, Cost, Of extends unknown[]>(
  { limiter, key, warn }: Rule<Cost, Of>,
  { belonging, of }: Opening<Of>,
  cost: OpenRule<Data, About>['cost'],
): OpenRule<Data, About> {
  const { visitor } = belonging;
  const isTransient = key === 'connection' || (key === 'address' && visitor.isTransient);
  const text = key === 'connection' ? belonging.key : key === 'address' ? visitor.key : key(...of);
  if (typeof key === 'function') warnOfKey(text, warn);
  const close = () => {
    if (isTransient) limiter.removePeer(text);
  };
  return { peer: openPeer(limiter, text), turns: turnsOf(limiter), cost, close };
}

/** The most bytes that a message can have and pass the rules by bytes; Infinity where there is none. */
export function mostBytes<Cost, Of extends unknown[]>(rules: readonly Rule<Cost, Of>[]): number {
  const bursts = rules.map(({ limiter, cost }) => (cost === 'bytes' ? burstOf(limiter) : Infinity));
  return Math.floor(Math.min(Infinity, ...bursts));
}

/** Tokens of a full bucket. An OrderbookRateLimiter counts requests, whatever they cost. */
function burstOf(limiter: AnyLimiter): number {
  if ('messageBurst' in limiter) return limiter.messageBurst;
  return 'burstLimit' in limiter ? limiter.burstLimit : Infinity;
}
