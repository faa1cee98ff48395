// The options that guards of all kinds of server take, checked and with their defaults.

import { type AddressKeyOptions, readSubnets, type Subnets } from '../address/address-key.js';
import { limiterError, refused, refusedNumber } from '../common/errors.js';
import { callback, nonNegative, positive, readOptions } from '../common/options.js';
import {
  type AnyLimiter,
  type BanningLimiter,
  requireBanning,
  requireLimiter,
} from '../limiters/verdict.js';
import type { DoorOptions } from './door.js';
import type { GateOptions } from './gate.js';
import { readWarnings, type Warn, type WarningOptions, warnOfCluster } from './misuse.js';
import { type MessageRule, type Rule, readRules } from './rules.js';
import { harmless, warn } from './warnings.js';

export interface ConnectionLimits {
  /** How often an address may connect: any of the three limiters, one token or request a connection. */
  limiter?: AnyLimiter | undefined;
  /** Most connections of an address at once, a whole number of at least 1. Default: no bound. */
  maxPerAddress?: number | undefined;
}

/** `About`: whose an error is. */
export interface GuardOptions<Cost, Of extends unknown[], Verdict, About>
  extends AddressKeyOptions,
    WarningOptions {
  /** Who may connect. Default: anybody whose address is not banned. */
  connections?: ConnectionLimits | undefined;
  /** The limits on messages, asked in their order. What one of them took, a later refusal does not give back. */
  messages?: MessageRule<Cost, Of> | readonly MessageRule<Cost, Of>[] | undefined;
  /**
   * Counts, by address, each connection that had to be closed for what its peer did; while its ban is in
   * force the address may not connect. An OrderbookRateLimiter, or a DirectConnectionRateLimiter, which is
   * asked `checkOrderbook`.
   */
  expulsions?: BanningLimiter | undefined;
  /**
   * On DELAY: `'drop'` the message (the default), or `'pause'`: stop reading from the socket until the
   * limit allows the message, which is processed then. So TCP holds the peer back. A pong is delivered at once, and
   * reading stops then, for `maxPauseSeconds` at most.
   */
  onDelay?: 'drop' | 'pause' | undefined;
  /**
   * A pause that had to be longer closes the connection, and so do messages that came in one piece and
   * cannot all pass in that time; in seconds, greater than 0. Default 30.
   */
  maxPauseSeconds?: number | undefined;
  /** Seconds that a peer has to answer a close before its connection is cut; at least 0. Default 1. */
  closeGraceSeconds?: number | undefined;
  /** Told what was decided and done, of what passed too. What it throws is told to `onError`. */
  onVerdict?: ((verdict: Verdict) => void) | undefined;
  /**
   * Told what a key, a cost, a limiter, `trustedProxies`, `onVerdict` or `farewell` threw: a peer that finds
   * out how must not end the process. Default: `process.emitWarning(error)`, as for what it throws itself.
   */
  onError?: ((error: unknown, about: About) => void) | undefined;
}

/** Of these, what concerns addresses. */
export interface AddressSettings {
  readonly subnets: Subnets;
  readonly door: DoorOptions;
  readonly expulsions: BanningLimiter | undefined;
}

export interface Settings<Cost, Of extends unknown[], Verdict, About>
  extends GateOptions,
    AddressSettings {
  readonly rules: readonly Rule<Cost, Of>[];
  /** Whether anything is limited by address. */
  readonly limitsAddresses: boolean;
  readonly warn: Warn;
  readonly graceMilliseconds: number;
  readonly onVerdict: ((verdict: Verdict) => void) | undefined;
  /** Throws nothing. */
  readonly onError: (error: unknown, about: About) => void;
}

/** Their names. */
export const GUARD_OPTIONS = [
  'ipv6Subnet',
  'ipv4Subnet',
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

/** The longest that a timer takes, in seconds. */
const LONGEST = 2_147_483;

type Given = Readonly<Record<string, unknown>>;

/** @throws `ERR_LIMITER_OPTION` */
export function readSettings<Cost, Of extends unknown[], Verdict, About>(
  given: Given,
): Settings<Cost, Of, Verdict, About> {
  const warnOf = readWarnings(given);
  const rules = readRules<Cost, Of>(given['messages'], warnOf);
  const expulsions = readExpulsions(given);
  const byAddress = rules.filter(({ key }) => key === 'address').map(({ limiter }) => limiter);
  const bans = expulsions === undefined ? byAddress : [expulsions, ...byAddress];
  const door = readDoor(given, bans);
  const limitsAddresses =
    door.limiter !== undefined || door.maxPerAddress < Infinity || bans.length > 0;
  // A connection is one worker's.
  if (limitsAddresses || rules.some(({ key }) => key !== 'connection')) warnOfCluster(warnOf);
  return {
    subnets: readSubnets(given),
    door,
    rules,
    limitsAddresses,
    warn: warnOf,
    expulsions,
    onDelay: readOnDelay(given),
    maxPauseSeconds: atMost(positive(given, 'maxPauseSeconds', 30), 'maxPauseSeconds'),
    graceMilliseconds:
      atMost(nonNegative(given, 'closeGraceSeconds', 1), 'closeGraceSeconds') * 1000,
    onVerdict: callback<(verdict: Verdict) => void>(given, 'onVerdict'),
    onError: harmless(callback<(error: unknown, about: About) => void>(given, 'onError') ?? warn),
  };
}

function readDoor(given: Given, bans: readonly AnyLimiter[]): DoorOptions {
  const connections = readOptions('connections', given['connections'], [
    'limiter',
    'maxPerAddress',
  ]);
  const { limiter, maxPerAddress = Infinity } = connections;
  if (limiter !== undefined) requireLimiter(limiter, 'the limiter of connections');
  if (
    maxPerAddress !== Infinity &&
    !(Number.isSafeInteger(maxPerAddress) && Number(maxPerAddress) >= 1)
  ) {
    const accepted = 'a whole number of at least 1';
    throw refusedNumber('ERR_LIMITER_OPTION', 'maxPerAddress', maxPerAddress, accepted);
  }
  return { limiter, maxPerAddress: Number(maxPerAddress), bans };
}

function readExpulsions({ expulsions }: Given): BanningLimiter | undefined {
  if (expulsions === undefined) return undefined;
  requireBanning(expulsions, 'expulsions');
  return expulsions;
}

function readOnDelay({ onDelay = 'drop' }: Given): 'drop' | 'pause' {
  if (onDelay === 'drop' || onDelay === 'pause') return onDelay;
  throw refused('ERR_LIMITER_OPTION', 'onDelay', onDelay, "'drop' or 'pause'");
}

function atMost(seconds: number, name: string): number {
  if (seconds <= LONGEST) return seconds;
  const message = `${name} must be at most ${LONGEST} seconds, got ${seconds}`;
  throw limiterError(RangeError, 'ERR_LIMITER_OPTION', message);
}
