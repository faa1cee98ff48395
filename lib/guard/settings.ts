// Reads and checks the options that all kinds of guard share, and fills in their defaults.

import {
  type AddressKeyOptions,
  readSubnets,
  SUBNET_OPTIONS,
  type Subnets,
} from '../address/address-key.js';
import { tryCall } from '../common/callbacks.js';
import { invalidNumber, invalidValue, limiterError } from '../common/errors.js';
import { callback, nonNegative, positive, readOptions } from '../common/options.js';
import { warnOfError } from '../common/warnings.js';
import { type AsyncLimiter, isAsyncLimiter } from '../limiters/async-limiter.js';
import {
  type AnyLimiter,
  type BanningLimiter,
  requireBanning,
  requireLimiter,
} from '../limiters/verdict.js';
import type { AsyncRuleLimiter } from '../rules/any-rules.js';
import type { RuleLimiter } from '../rules/rule-limiter.js';
import type { MessageGateOptions, OnDelay } from './message-gate.js';
import {
  countsPerProcess,
  readWarnings,
  type Warn,
  type WarningOptions,
  warnOfCluster,
} from './misuse.js';
import type { OpenLimits } from './open-connections.js';
import { type RuleLimits, readRuleLimits } from './rule-limits.js';
import { type MessageRule, type Rule, readRules } from './rules.js';

/** Limits on connections. Each maximum is a whole number of at least 1; default: no limit. */
export interface ConnectionLimits {
  /**
   * How often an address may connect: any of the three limiters or a SharedRateLimiter, but not a RuleLimiter. A connection
   * costs one token or one request. While a SharedRateLimiter waits for its store, the connection waits unread, and counts
   * as open.
   */
  limiter?: AnyLimiter | AsyncLimiter | undefined;
  /** The maximum number of open connections per address. */
  maxPerAddress?: number | undefined;
  /** The maximum number of open connections per network. */
  maxPerNetwork?: number | undefined;
  /** The size of the networks of `maxPerNetwork`. Default `{ ipv4Subnet: 24, ipv6Subnet: 48 }`. */
  network?: AddressKeyOptions | undefined;
  /** The maximum number of open connections of the server. */
  maxPerServer?: number | undefined;
}

/** The options of every guard. `Source` is the connection in which an error occurred. */
export interface GuardOptions<Cost, Of extends unknown[], Verdict, Source>
  extends AddressKeyOptions,
    WarningOptions {
  /**
   * All limits in one: it checks each connection and each message, before the limits of `connections` and `messages`. The
   * guard gives the keys of the scopes `connection` and `address`, if the limiter has them: a key for each connection,
   * forgotten when the connection closes, and the client's address (in a text scope, the key of the address), if it has
   * one. Scopes derived from `address` follow; the option `keys` gives the keys of others.
   *
   * A connection is a check with the action `connect`, before it is established and without the scope `connection`. A
   * message is one with the action `message` that costs 1 of `requests` and its length in `bytes`, if there are rules in
   * these units. A rule without `action` counts both.
   *
   * While a SharedRuleLimiter waits for its store, a connection waits unread, and the messages of a connection wait in
   * order.
   */
  limiter?: RuleLimiter | AsyncRuleLimiter | undefined;
  /** Limits on connections. Default: only connections from banned addresses are refused. */
  connections?: ConnectionLimits | undefined;
  /**
   * The limits on messages, checked in the order of the list. If a limit refuses a message, the tokens that earlier
   * limits took for it are not returned.
   */
  messages?: MessageRule<Cost, Of> | readonly MessageRule<Cost, Of>[] | undefined;
  /**
   * Counts, by address, each connection that was closed because of what its peer did. While this limiter bans an
   * address, new connections from it are refused. An OrderbookRateLimiter, or a DirectConnectionRateLimiter, of which
   * the guard calls `checkOrderbook`.
   */
  expulsions?: BanningLimiter | undefined;
  /**
   * What happens to a message that a limit delays. `'drop'` (the default) discards it. `'pause'` stops reading from the
   * socket until the limit allows the message, and then delivers it; meanwhile TCP slows the peer down. A pong is
   * delivered at once, and reading stops after it, for at most `maxPauseSeconds`.
   */
  onDelay?: 'drop' | 'pause' | undefined;
  /**
   * The longest pause in seconds, greater than 0. A message that would have to wait longer closes the connection. So do
   * messages that came in one piece and cannot all pass in this time. Default 30.
   */
  maxPauseSeconds?: number | undefined;
  /** Seconds that a peer has to answer a close before its connection is destroyed; at least 0. Default 1. */
  closeGraceSeconds?: number | undefined;
  /** Receives every decision, also on messages that pass. `onError` receives what it throws or rejects with. */
  onVerdict?: ((verdict: Verdict) => void) | undefined;
  /**
   * Receives what a key, a cost, `classify`, a limiter, `trustedProxies`, `onVerdict` or `farewell` threw: a peer that finds out how
   * to cause such an error must not be able to end the process. Default: `process.emitWarning(error)`. An error that
   * `onError` itself throws or rejects with becomes such a warning too.
   */
  onError?: ((error: unknown, source: Source) => void) | undefined;
}

/** The settings of limits on connections. @internal */
export interface ConnectionSettings {
  /** How often an address may connect. */
  readonly limiter: AnyLimiter | AsyncLimiter | undefined;
  readonly open: OpenLimits;
  /** The limiters by address, whose bans refuse connections. */
  readonly banLimiters: readonly AnyLimiter[];
  /** The RuleLimiter. */
  readonly limits: RuleLimits | undefined;
}

/** The settings that concern addresses. @internal */
export interface AddressSettings {
  readonly subnets: Subnets;
  readonly connections: ConnectionSettings;
  /** The option `expulsions`. */
  readonly offenders: BanningLimiter | undefined;
}

/** The user's functions that are told what happens. @internal */
export interface ReportSettings<Verdict, Source> {
  readonly onVerdict: ((verdict: Verdict) => void) | undefined;
  /** Throws nothing. */
  readonly onError: (error: unknown, source: Source) => void;
}

/** Validated options. @internal */
export interface GuardSettings<Cost, Of extends unknown[], Verdict, Source>
  extends MessageGateOptions,
    AddressSettings,
    ReportSettings<Verdict, Source> {
  readonly rules: readonly Rule<Cost, Of>[];
  /** The options `limiter`, `keys` and `classify`. */
  readonly limits: RuleLimits | undefined;
  /** Whether there is any limit by address. */
  readonly limitsAddresses: boolean;
  readonly warn: Warn;
  readonly graceMilliseconds: number;
}

/** The names of the options. */
export const GUARD_OPTIONS = [
  'ipv6Subnet',
  'ipv4Subnet',
  'limiter',
  'keys',
  'classify',
  'connections',
  'messages',
  'expulsions',
  'onDelay',
  'maxPauseSeconds',
  'closeGraceSeconds',
  'onVerdict',
  'onError',
  'warnings',
];

const CONNECTION_LIMITS = ['limiter', 'maxPerAddress', 'maxPerNetwork', 'network', 'maxPerServer'];

/** The longest time of a timer in seconds: 2^31 - 1 milliseconds. */
const MAX_TIMER_SECONDS = 2_147_483;

type Given = Readonly<Record<string, unknown>>;

/** `modes`: the values of `onDelay`. @throws `ERR_LIMITER_OPTION` @internal */
export function readSettings<Cost, Of extends unknown[], Verdict, Source>(
  given: Given,
  modes: readonly OnDelay[] = ['drop', 'pause'],
): GuardSettings<Cost, Of, Verdict, Source> {
  const warn = readWarnings(given);
  const rules = readRules<Cost, Of>(given['messages'], warn);
  const limits = readRuleLimits(given, warn);
  const offenders = readExpulsions(given);
  const byAddress = rules.filter(({ key }) => key === 'address').map(({ limiter }) => limiter);
  // A limiter that answers by promises has no bans.
  const known = byAddress.filter(isSynchronous);
  const banLimiters = offenders === undefined ? known : [offenders, ...known];
  const connections = readConnections(given, banLimiters, limits);
  const { maxPerAddress, maxPerNetwork, maxPerServer } = connections.open;
  const countsConnections = maxPerAddress < Infinity || maxPerNetwork < Infinity;
  const limitsAddresses =
    countsConnections ||
    connections.limiter !== undefined ||
    banLimiters.length > 0 ||
    byAddress.length > 0 ||
    limits?.limitsAddresses === true;
  // A connection belongs to one worker, so a limit per connection is exact in a cluster too.
  const limiters = rules.filter(({ key }) => key !== 'connection').map(({ limiter }) => limiter);
  const perProcess: Readonly<Record<string, boolean>> = {
    'connections.maxPerAddress': maxPerAddress < Infinity,
    'connections.maxPerNetwork': maxPerNetwork < Infinity,
    'connections.maxPerServer': maxPerServer < Infinity,
    'connections.limiter':
      connections.limiter !== undefined && countsPerProcess(connections.limiter),
    messages: limiters.some(countsPerProcess),
    expulsions: offenders !== undefined && countsPerProcess(offenders),
    limiter: limits?.isPerProcess === true,
  };
  warnOfCluster(
    warn,
    Object.keys(perProcess).filter((option) => perProcess[option]),
  );
  return {
    subnets: readSubnets(given),
    connections,
    rules,
    limits,
    limitsAddresses,
    warn,
    offenders,
    onDelay: readOnDelay(given, modes),
    maxPauseSeconds: atMost(positive(given, 'maxPauseSeconds', 30), 'maxPauseSeconds'),
    graceMilliseconds:
      atMost(nonNegative(given, 'closeGraceSeconds', 1), 'closeGraceSeconds') * 1000,
    onVerdict: callback<(verdict: Verdict) => void>(given, 'onVerdict'),
    onError: withoutThrowing(
      callback<(error: unknown, source: Source) => void>(given, 'onError') ?? warnOfError,
    ),
  };
}

function isSynchronous(limiter: AnyLimiter | AsyncLimiter | undefined): limiter is AnyLimiter {
  return limiter !== undefined && !isAsyncLimiter(limiter);
}

function readConnections(
  given: Given,
  banLimiters: readonly AnyLimiter[],
  limits: RuleLimits | undefined,
): ConnectionSettings {
  const connections = readOptions('connections', given['connections'], CONNECTION_LIMITS);
  const { limiter } = connections;
  if (limiter !== undefined) requireLimiter(limiter, 'the limiter of connections');
  const network = readOptions('network', connections['network'], SUBNET_OPTIONS);
  return {
    limiter,
    open: {
      maxPerAddress: readMaximum(connections, 'maxPerAddress', Infinity),
      maxPerNetwork: readMaximum(connections, 'maxPerNetwork', Infinity),
      maxPerServer: readMaximum(connections, 'maxPerServer', Infinity),
      network: readSubnets(network, { ipv4Subnet: 24, ipv6Subnet: 48 }),
    },
    banLimiters,
    limits,
  };
}

/** A whole number of at least 1, or `fallback` if it is not given. */
export function readMaximum(given: Given, name: string, fallback: number): number {
  const value = given[name] === undefined ? fallback : given[name];
  if (value === fallback || (Number.isSafeInteger(value) && Number(value) >= 1)) {
    return Number(value);
  }
  throw invalidNumber('ERR_LIMITER_OPTION', name, value, 'a whole number of at least 1');
}

function readExpulsions({ expulsions }: Given): BanningLimiter | undefined {
  if (expulsions === undefined) return undefined;
  requireBanning(expulsions, 'expulsions');
  return expulsions;
}

function readOnDelay({ onDelay = 'drop' }: Given, modes: readonly OnDelay[]): OnDelay {
  const mode = modes.find((mode) => mode === onDelay);
  if (mode !== undefined) return mode;
  const accepted = modes.map((mode) => `'${mode}'`).join(' or ');
  throw invalidValue('ERR_LIMITER_OPTION', 'onDelay', onDelay, accepted);
}

/** Seconds greater than 0 as milliseconds; undefined for Infinity: no deadline. @throws `ERR_LIMITER_OPTION` */
export function readDeadline(given: Given, name: string, fallback: number): number | undefined {
  if ((given[name] ?? fallback) === Infinity) return undefined;
  return atMost(positive(given, name, fallback), name) * 1000;
}

/** @throws `ERR_LIMITER_OPTION` if the seconds are more than a timer can wait. */
export function atMost(seconds: number, name: string): number {
  if (seconds <= MAX_TIMER_SECONDS) return seconds;
  const message = `${name} must be at most ${MAX_TIMER_SECONDS} seconds, got ${seconds}`;
  throw limiterError(RangeError, 'ERR_LIMITER_OPTION', message);
}

/** The same function, but what it throws becomes a warning. */
function withoutThrowing<Arguments extends unknown[]>(
  call: (...of: Arguments) => void,
): (...of: Arguments) => void {
  return (...of) => tryCall(() => call(...of), warnOfError);
}
