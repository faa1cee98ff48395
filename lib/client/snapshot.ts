// What a limiter writes down so that a restart does not double its quota, and how that is read.

import { limiterError, refused, show } from '../common/errors.js';
import { isArray, isRecord } from '../common/kinds.js';
import { describe, type Policy } from './policies.js';
import type { SavedLimit, SavedPolicy } from './server-policies.js';
import type { Accounting, Algorithm } from './windows/index.js';

const VERSION = 1;
const KIND = 'PolicyLimiter';

/** A limiter's state, safe for JSON. Times are in seconds, and relative but for `takenAt`. */
export interface PolicySnapshot {
  version: typeof VERSION;
  limiter: typeof KIND;
  /** Wall clock, seconds since 1970. */
  takenAt: number;
  algorithm: Algorithm;
  burstShare: number;
  policies: { name: string | null; quota: number; windowSeconds: number; state: number[] }[];
  /** How long the upstream wants to be left alone. */
  blockedSeconds: number;
  /** What it said is left. */
  limits: SavedLimit[];
  /** Its own policies, so far as they count, and what of them is spent. */
  told: SavedPolicy[];
}

/** A snapshot's outermost layer. */
export function writeSnapshot(
  how: Accounting,
  policies: readonly Policy[],
  states: readonly number[][],
  rest: Pick<PolicySnapshot, 'takenAt' | 'blockedSeconds' | 'limits' | 'told'>,
): PolicySnapshot {
  return {
    version: VERSION,
    limiter: KIND,
    algorithm: how.algorithm,
    burstShare: how.burstShare,
    policies: policies.map(({ name = null, quota, windowSeconds }, at) => {
      return { name, quota, windowSeconds, state: states[at] ?? [] };
    }),
    ...rest,
  };
}

/**
 * The snapshot, checked, of a limiter that counts the same policies in the same way.
 * @throws `ERR_LIMITER_SNAPSHOT`
 */
export function readSnapshot(
  given: unknown,
  how: Accounting,
  policies: readonly Policy[],
): PolicySnapshot {
  const snapshot = record(given, 'a snapshot');
  is(snapshot, 'version', VERSION);
  is(snapshot, 'limiter', KIND);
  is(snapshot, 'algorithm', how.algorithm);
  is(snapshot, 'burstShare', how.burstShare);
  amount(snapshot, 'takenAt');
  amount(snapshot, 'blockedSeconds');
  const saved = list(snapshot, 'policies');
  if (saved.length !== policies.length) {
    throw unreadable(`it has ${saved.length} policies, this limiter ${policies.length}`);
  }
  for (const [at, policy] of policies.entries()) requireSame(saved[at], policy);
  for (const limit of list(snapshot, 'limits')) {
    const told = named(limit, 'a limit of the snapshot');
    amount(told, 'remaining');
    amount(told, 'resetSeconds');
    amount(told, 'blockedSeconds');
    if (told['quota'] !== null) amount(told, 'quota');
  }
  for (const policy of list(snapshot, 'told')) {
    const told = named(policy, 'a told policy of the snapshot');
    for (const key of ['quota', 'windowSeconds', 'staysSeconds']) amount(told, key);
    if (told['quota'] === 0 || told['windowSeconds'] === 0) {
      throw unreadable('a told policy has no quota or no window');
    }
    if (typeof told['unit'] !== 'string') throw wrong('unit', told['unit'], 'a string');
  }
  return given as PolicySnapshot;
}

/** The error for a snapshot that cannot be read whole. */
export function unreadable(why: string): Error {
  const message = `the snapshot cannot be restored: ${why}`;
  return limiterError(TypeError, 'ERR_LIMITER_SNAPSHOT', message);
}

function requireSame(given: unknown, policy: Policy): void {
  const saved = record(given, 'a policy of the snapshot');
  const { name = null, quota, windowSeconds } = policy;
  if (saved['name'] === name && saved['quota'] === quota) {
    if (saved['windowSeconds'] === windowSeconds) return;
  }
  throw unreadable(`it does not have the policy ${describe(policy)} in the same place`);
}

type Fields = Readonly<Record<string, unknown>>;

function record(given: unknown, what: string): Fields {
  if (isRecord(given)) return given;
  throw refused('ERR_LIMITER_SNAPSHOT', what, given, 'an object');
}

function named(given: unknown, what: string): Fields {
  const told = record(given, what);
  for (const key of ['name', 'partitionKey']) {
    const value = told[key];
    if (value !== null && typeof value !== 'string') throw wrong(key, value, 'a string or null');
  }
  return told;
}

function list(fields: Fields, key: string): unknown[] {
  const value = fields[key];
  if (!isArray(value)) throw wrong(key, value, 'an array');
  return value;
}

function amount(fields: Fields, key: string): void {
  const value = fields[key];
  if (typeof value === 'number' && value >= 0 && value < Infinity) return;
  throw wrong(key, value, 'a finite number of at least 0');
}

function is(fields: Fields, key: string, expected: string | number): void {
  if (fields[key] !== expected) throw wrong(key, fields[key], show(expected));
}

function wrong(key: string, given: unknown, accepted: string): Error {
  return refused('ERR_LIMITER_SNAPSHOT', `${key} of the snapshot`, given, accepted);
}
