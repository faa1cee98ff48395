// Validation of options, costs and keys. Each function throws an error that says what is accepted.

import type { Clock } from './clock.js';
import { DEFAULT_MAX_PEERS, MAX_SHARED_PEERS } from './constants.js';
import { invalidNumber, invalidValue, limiterError, show } from './errors.js';
import { isPlain, isRecord, isRevoked } from './kinds.js';
import { requireShared } from './shared-name.js';
import type { Ban, EngineName, LimiterOptions } from './types.js';

type Given = Readonly<Record<string, unknown>>;

/**
 * Returns the options. @throws `ERR_LIMITER_OPTION` unless they are an object with no other names than `names`, and
 * each option can be read.
 */
export function readOptions(owner: string, options: unknown, names: readonly string[]): Given {
  if (options === undefined) return {};
  requireOptions(owner, options, names);
  for (const name of Object.keys(options)) {
    if (!names.includes(name)) {
      const message = `unknown option ${show(name)} of ${owner}; it takes ${names.join(', ')}`;
      throw limiterError(TypeError, 'ERR_LIMITER_OPTION', message);
    }
  }
  for (const name of names) {
    const value = options[name];
    if (isRevoked(value)) {
      throw invalidValue('ERR_LIMITER_OPTION', name, value, 'a value that can be read');
    }
  }
  return options;
}

/**
 * @throws `ERR_LIMITER_OPTION` unless `options` is a plain object, or an instance of a class with options of `names`. A
 * Map is not accepted, because its entries would be ignored.
 */
export function requireOptions(
  owner: string,
  options: unknown,
  names: readonly string[],
): asserts options is Given {
  if (isRecord(options) && (isPlain(options) || names.some((name) => name in options))) return;
  throw invalidValue(
    'ERR_LIMITER_OPTION',
    `the options of ${owner}`,
    options,
    'an object of options',
  );
}

/** A finite number of at least 0. */
export function nonNegative(given: Given, name: string, fallback: number): number {
  return number(
    withDefault(given[name], fallback),
    name,
    'a finite number of at least 0',
    (n) => n >= 0,
  );
}

/** A finite number greater than 0. */
export function positive(given: Given, name: string, fallback?: number): number {
  return number(
    withDefault(given[name], fallback),
    name,
    'a finite number greater than 0',
    (n) => n > 0,
  );
}

/** A whole number from 0 to 2^53 - 1. */
export function count(given: Given, name: string, fallback: number): number {
  return number(
    withDefault(given[name], fallback),
    name,
    'a whole number from 0 to 2^53 - 1',
    isCount,
  );
}

/** A count, or null, which means "never" in the reference. */
export function countOrNull(given: Given, name: string): number | null {
  const value = withDefault(given[name], null);
  if (value === null) return null;
  return number(value, name, 'null (never) or a whole number from 0 to 2^53 - 1', isCount);
}

/**
 * A burst. Undefined, null (the reference's default) and 0 mean `fallback`. Any other value must be at least 1, so
 * that one token fits.
 */
export function burst(given: Given, name: string, fallback: number): number {
  const accepted = 'null or 0 (the default), or a finite number of at least 1';
  const value = number(given[name] ?? 0, name, accepted, (n) => n === 0 || n >= 1);
  return value === 0 ? fallback : value;
}

/** The names of the options of every limiter. */
export const COMMON_OPTIONS = [
  'engine',
  'clock',
  'maxPeers',
  'shared',
  'onBan',
  'cleanup',
] as const;

/** The option `cleanup`, with its defaults. */
export interface CleanupRounds {
  readonly maxAgeSeconds: number;
  readonly everySeconds: number;
}

export interface CommonOptions {
  readonly engine: 'auto' | EngineName | undefined;
  readonly clock: Clock | undefined;
  readonly maxPeers: number;
  readonly shared: string | undefined;
  readonly onBan: ((ban: Ban) => void) | undefined;
  readonly cleanup: CleanupRounds | undefined;
}

export function commonOptions(given: Given): CommonOptions {
  const { engine } = given;
  if (engine !== undefined && engine !== 'auto' && engine !== 'native' && engine !== 'js') {
    throw invalidValue('ERR_LIMITER_OPTION', 'engine', engine, "'auto', 'native' or 'js'");
  }
  const maxPeers = withDefault(given['maxPeers'], DEFAULT_MAX_PEERS);
  if (maxPeers !== Infinity && !(isCount(maxPeers) && maxPeers >= 1)) {
    const accepted = 'a whole number from 1 to 2^53 - 1, or Infinity';
    throw invalidNumber('ERR_LIMITER_OPTION', 'maxPeers', maxPeers, accepted);
  }
  const clock = callback<Clock>(given, 'clock');
  return {
    engine,
    clock,
    maxPeers: maxPeers as number,
    shared: sharedTable(given['shared'], maxPeers as number, clock),
    onBan: callback<NonNullable<LimiterOptions['onBan']>>(given, 'onBan'),
    cleanup: cleanupSchedule(given['cleanup']),
  };
}

/** All processes of the machine have one clock, and the file of a table has its size from the beginning. */
function sharedTable(
  shared: unknown,
  maxPeers: number,
  clock: Clock | undefined,
): string | undefined {
  if (shared === undefined) return undefined;
  requireShared(shared);
  if (clock !== undefined) {
    const accepted = "undefined with the option 'shared', which has the machine's clock";
    throw invalidValue('ERR_LIMITER_OPTION', 'clock', clock, accepted);
  }
  if (maxPeers > MAX_SHARED_PEERS) {
    const accepted = "a whole number from 1 to 2^26 with the option 'shared'";
    throw invalidNumber('ERR_LIMITER_OPTION', 'maxPeers', maxPeers, accepted);
  }
  return shared;
}

function cleanupSchedule(given: unknown): CleanupRounds | undefined {
  if (given === undefined) return undefined;
  const schedule = readOptions('cleanup', given, ['maxAgeSeconds', 'everySeconds']);
  return {
    maxAgeSeconds: positive(schedule, 'maxAgeSeconds', 3600),
    everySeconds: positive(schedule, 'everySeconds', 60),
  };
}

/** A function, or undefined. */
export function callback<F>(given: Given, name: string): F | undefined {
  const value = given[name];
  if (value !== undefined && typeof value !== 'function') {
    throw invalidValue('ERR_LIMITER_OPTION', name, value, 'a function');
  }
  return value as F | undefined;
}

/** @throws `ERR_LIMITER_KEY` unless `key` is a string. Every string is accepted, including "" and lone surrogates. */
export function requireKey(key: unknown): asserts key is string {
  if (typeof key !== 'string') throw invalidValue('ERR_LIMITER_KEY', 'a peer key', key, 'a string');
}

/** @throws `ERR_LIMITER_COST` unless `cost` is a finite number of at least 0. */
export function requireCost(cost: unknown, name = 'a cost'): asserts cost is number {
  if (!(typeof cost === 'number' && cost >= 0 && cost < Infinity)) {
    throw invalidNumber('ERR_LIMITER_COST', name, cost, 'a finite number of at least 0');
  }
}

/** Any number except NaN, in seconds. Below 0, every record is too old; with Infinity, none is. */
export function requireAge(age: unknown, name: string): asserts age is number {
  if (typeof age !== 'number' || Number.isNaN(age)) {
    throw invalidNumber('ERR_LIMITER_OPTION', name, age, 'a number of seconds');
  }
}

/** A whole number from 0 to 2^53 - 1. */
export function requireCount(value: unknown, name: string): asserts value is number {
  number(value, name, 'a whole number from 0 to 2^53 - 1', isCount);
}

/** The duration of a ban that the user begins, in seconds. */
export function requireBanSeconds(
  seconds: unknown,
  banDuration: number,
): asserts seconds is number {
  const accepted = `greater than 0 and at most banDuration (${banDuration})`;
  number(seconds, 'seconds', accepted, (n) => n > 0 && n <= banDuration);
}

/** The budget of a cleanup in milliseconds; Infinity without one. */
export function cleanupBudget(limits: unknown): number {
  const { budgetMs } = readOptions('a cleanup', limits, ['budgetMs']);
  if (budgetMs === undefined) return Infinity;
  return number(budgetMs, 'budgetMs', 'a finite number of at least 0', (n) => n >= 0);
}

// An option is absent only if it is undefined. Null is a value: the default if the reference's default is None
// (`burst`, `countOrNull`), and invalid for all other options.
function withDefault(value: unknown, fallback: unknown): unknown {
  return value === undefined ? fallback : value;
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function number(
  value: unknown,
  name: string,
  accepted: string,
  fits: (n: number) => boolean,
): number {
  if (typeof value !== 'number' || !Number.isFinite(value) || !fits(value)) {
    throw invalidNumber('ERR_LIMITER_OPTION', name, value, accepted);
  }
  return value;
}
