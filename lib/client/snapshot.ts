// The snapshot of a PolicyLimiter, which prevents that a restart doubles its quotas: writing, and reading with
// all checks.

import { invalidValue, limiterError, show } from '../common/errors.js';
import { isArray, isRecord } from '../common/kinds.js';
import { REQUESTS } from './cost.js';
import { type Algorithm, describe, type Policy, unitOf } from './policies.js';
import type { AccountingOptions } from './windows/index.js';

const VERSION = 1;
const KIND = 'PolicyLimiter';

/** A limit in a snapshot: what the server said remains of a quota, and for how long. */
export interface SavedLimit {
  readonly name: string | null;
  readonly quota: number | null;
  readonly partitionKey: string | null;
  readonly remaining: number;
  /** Seconds for which `remaining` must last. */
  readonly resetSeconds: number;
  /** Seconds for which no request may be sent. */
  readonly blockedSeconds: number;
  /**
   * The seconds until the reset on which responses agreed, and those from the first to the last of them. Not there if they
   * did not agree.
   */
  readonly agreed?: { readonly resetSeconds: number; readonly seconds: number };
}

/** A policy in a snapshot that the server reported, with what is spent of its window. */
export interface SavedPolicy {
  readonly name: string | null;
  readonly quota: number;
  readonly partitionKey: string | null;
  readonly windowSeconds: number;
  readonly unit: string;
  /** Seconds for which the policy stays in force if the server does not report it again. */
  readonly staysSeconds: number;
  /** The state of the window, as its algorithm counts it. */
  readonly state: readonly number[];
}

/** A policy of the limiter in a snapshot, with what is spent of its window. */
export interface SavedWindow {
  readonly name: string | null;
  readonly quota: number;
  readonly windowSeconds: number;
  /** The unit; `requests` if it is not there. */
  readonly unit?: string;
  /** The state of the window, as its algorithm counts it. */
  readonly state: number[];
}

/** The state of a `PolicyLimiter`, safe for JSON. All times but `takenAt` are relative. */
export interface PolicySnapshot {
  version: 1;
  limiter: 'PolicyLimiter';
  /** The time of the snapshot by the wall clock, in seconds since 1970. */
  takenAt: number;
  algorithm: Algorithm;
  burstShare: number;
  policies: SavedWindow[];
  /** Seconds for which the upstream must receive no request. */
  blockedSeconds: number;
  /** What the server said remains. */
  limits: SavedLimit[];
  /** The policies that the server reported and that count, with what is spent of them. */
  told: SavedPolicy[];
}

/** Builds a snapshot from its parts. @internal */
export function writeSnapshot(
  options: AccountingOptions,
  policies: readonly Policy[],
  states: readonly number[][],
  rest: Pick<PolicySnapshot, 'takenAt' | 'blockedSeconds' | 'limits' | 'told'>,
): PolicySnapshot {
  return {
    version: VERSION,
    limiter: KIND,
    algorithm: options.algorithm,
    burstShare: options.burstShare,
    policies: policies.map((policy, index) => {
      const { name = null, quota, windowSeconds } = policy;
      const unit = unitOf(policy);
      const state = states[index] ?? [];
      return { name, quota, windowSeconds, ...(unit === REQUESTS ? {} : { unit }), state };
    }),
    ...rest,
  };
}

/**
 * Checks that a snapshot is valid and belongs to the same policies and accounting, and returns it.
 * @throws ERR_LIMITER_SNAPSHOT
 * @internal
 */
export function readSnapshot(
  given: unknown,
  options: AccountingOptions,
  policies: readonly Policy[],
): PolicySnapshot {
  const snapshot = requireRecord(given, 'a snapshot');
  requireEqual(snapshot, 'version', VERSION);
  requireEqual(snapshot, 'limiter', KIND);
  requireAmount(snapshot, 'takenAt');
  requireAmount(snapshot, 'blockedSeconds');
  try {
    requireSameLimiter(snapshot, options, policies);
  } catch (error) {
    mismatches.add(error as Error);
    throw error;
  }
  for (const limit of requireArray(snapshot, 'limits')) {
    const fields = requireKey(limit, 'a limit of the snapshot');
    requireAmount(fields, 'remaining');
    requireAmount(fields, 'resetSeconds');
    requireAmount(fields, 'blockedSeconds');
    if (fields['quota'] !== null) requireAmount(fields, 'quota');
    if (fields['agreed'] === undefined) continue;
    const agreed = requireRecord(fields['agreed'], 'agreed of the snapshot');
    requireAmount(agreed, 'resetSeconds');
    requireAmount(agreed, 'seconds');
  }
  for (const policy of requireArray(snapshot, 'told')) {
    const fields = requireKey(policy, 'a server policy of the snapshot');
    for (const name of ['quota', 'windowSeconds', 'staysSeconds']) requireAmount(fields, name);
    if (fields['quota'] === 0 || fields['windowSeconds'] === 0) {
      throw invalidSnapshot('a server policy has a quota or a window of 0');
    }
    if (typeof fields['unit'] !== 'string') throw invalidField('unit', fields['unit'], 'a string');
  }
  return given as PolicySnapshot;
}

/** The errors for snapshots that belong to another limiter. */
const mismatches = new WeakSet<Error>();

/** Whether an error of `readSnapshot` means that the snapshot belongs to a limiter with other policies or options. */
export function isMismatch(error: unknown): boolean {
  return mismatches.has(error as Error);
}

/** Returns the error for a snapshot that is invalid or belongs to another limiter. */
export function invalidSnapshot(reason: string): Error {
  const message = `the snapshot cannot be restored: ${reason}`;
  return limiterError(TypeError, 'ERR_LIMITER_SNAPSHOT', message);
}

function requireSameLimiter(
  snapshot: Fields,
  options: AccountingOptions,
  policies: readonly Policy[],
): void {
  requireEqual(snapshot, 'algorithm', options.algorithm);
  requireEqual(snapshot, 'burstShare', options.burstShare);
  const saved = requireArray(snapshot, 'policies');
  if (saved.length !== policies.length) {
    throw invalidSnapshot(
      `it has ${saved.length} policies, but the limiter has ${policies.length}`,
    );
  }
  for (const [index, policy] of policies.entries()) requireSamePolicy(saved[index], policy, index);
}

function requireSamePolicy(given: unknown, policy: Policy, index: number): void {
  const saved = requireRecord(given, 'a policy of the snapshot');
  const { name = null, quota, windowSeconds } = policy;
  const { unit = REQUESTS } = saved;
  const isSame =
    saved['name'] === name && saved['quota'] === quota && saved['windowSeconds'] === windowSeconds;
  if (isSame && unit === unitOf(policy)) return;
  throw invalidSnapshot(`its policies[${index}] must be the policy ${describe(policy)}`);
}

type Fields = Readonly<Record<string, unknown>>;

function requireRecord(given: unknown, what: string): Fields {
  if (isRecord(given)) return given;
  throw invalidValue('ERR_LIMITER_SNAPSHOT', what, given, 'an object');
}

/** Checks the name and the partition key, which identify a limit or a policy. */
function requireKey(given: unknown, what: string): Fields {
  const fields = requireRecord(given, what);
  for (const name of ['name', 'partitionKey']) {
    const value = fields[name];
    if (value !== null && typeof value !== 'string') {
      throw invalidField(name, value, 'a string or null');
    }
  }
  return fields;
}

function requireArray(fields: Fields, name: string): unknown[] {
  const value = fields[name];
  if (!isArray(value)) throw invalidField(name, value, 'an array');
  return value;
}

function requireAmount(fields: Fields, name: string): void {
  const value = fields[name];
  if (typeof value === 'number' && value >= 0 && value < Infinity) return;
  throw invalidField(name, value, 'a finite number of at least 0');
}

function requireEqual(fields: Fields, name: string, expected: string | number): void {
  if (fields[name] !== expected) throw invalidField(name, fields[name], show(expected));
}

function invalidField(name: string, given: unknown, accepted: string): Error {
  return invalidValue('ERR_LIMITER_SNAPSHOT', `${name} of the snapshot`, given, accepted);
}
