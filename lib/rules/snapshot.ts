// Reads and writes snapshots of a RuleLimiter. A snapshot is validated whole before anything of it is restored.

import { show } from '../common/errors.js';
import { isArray, isRecord } from '../common/kinds.js';
import { worstFirst } from '../engine/columns.js';
import {
  MAX_RULES,
  RULE_DIGEST_NUMBERS,
  RULE_OFFENDER_LAYOUT,
  RULE_OFFENDER_NUMBERS,
  type RuleBanConfig,
  type RuleDigestColumns,
  type RuleOffenderColumns,
  type RulesCore,
} from '../engine/rules.js';
import { hexOf, isZero, readHex } from '../limiters/digest-text.js';
import { fields, invalid, requireNumber } from '../limiters/snapshot-fields.js';
import type { PlacedRule } from './compile.js';
import type { LimiterContext } from './limiter-context.js';
import type {
  RuleScopeSnapshot,
  RuleSlice,
  RuleSnapshot,
  RuleSnapshotDigest,
  RuleSnapshotPeer,
  UsedTokens,
} from './types.js';

const FORMAT = 2;
const LIMITER = 'RuleLimiter';
/** Keys per slice. A slice takes some milliseconds. */
const SLICE_KEYS = 1000;

/** The part of a RuleLimiter that restores. */
interface Restorer {
  readonly core: RulesCore;
  readonly context: LimiterContext;
  readonly maxPeers: number;
  withRules<Result>(call: () => Result): Result;
}

/** Yields the slices of all scopes: at least one for each scope with keys, one for each single scope with used tokens. */
export function* slicesOf(
  core: RulesCore,
  context: LimiterContext,
  now: () => number | undefined,
): Generator<RuleSlice, void, undefined> {
  // An update between two slices may give the rules other slots. A slice is of those that the core had when it returned.
  const rulesOf = (index: number) => context.book.rules.filter(({ spec }) => spec.scope === index);
  for (const { name, index, kind } of context.scopes) {
    const slice = { format: FORMAT, limiter: LIMITER, scope: name } as const;
    if (kind === 'single') {
      const single = writeSingle(core.saveSingle(index, now()), rulesOf(index));
      if (single !== undefined) yield { ...slice, peers: [], digests: [], single };
      continue;
    }
    for (const { offenders, digests } of core.snapshot(index, SLICE_KEYS, now)) {
      const rules = rulesOf(index);
      const peers = writePeers(offenders, rules);
      yield { ...slice, peers, digests: writeDigests(digests, rules) };
    }
  }
}

/** Joins slices into one snapshot. */
export function joinSlices(slices: Iterable<RuleSlice>): RuleSnapshot {
  const scopes = new Map<string, RuleScopeSnapshot>();
  for (const { format, limiter, ...slice } of slices) {
    const { peers, digests } = slice;
    const known = scopes.get(slice.scope);
    if (known === undefined) scopes.set(slice.scope, slice);
    else {
      for (const peer of peers) known.peers.push(peer);
      for (const group of digests) addGroup(known.digests, group);
    }
  }
  return { format: FORMAT, limiter: LIMITER, scopes: [...scopes.values()] };
}

function addGroup(
  groups: RuleScopeSnapshot['digests'],
  group: RuleScopeSnapshot['digests'][number],
): void {
  const known = groups.find(({ secret }) => secret === group.secret);
  if (known === undefined) groups.push(group);
  else for (const peer of group.peers) known.peers.push(peer);
}

function writePeers(
  { keys, numbers }: RuleOffenderColumns,
  rules: readonly PlacedRule[],
): RuleSnapshotPeer[] {
  return keys.map((key, i) => {
    const row = numbers.subarray(i * RULE_OFFENDER_NUMBERS, (i + 1) * RULE_OFFENDER_NUMBERS);
    const [violations = 0, level = 0, banLevel = 0, left = 0, since = 0, idleSeconds = 0] = row;
    return {
      key,
      violations,
      level,
      banLevel,
      banSecondsLeft: Number.isNaN(left) ? null : left === Infinity ? 'forever' : left,
      secondsSinceBan: Number.isNaN(since) ? null : since,
      idleSeconds,
      used: writeUsed(row.subarray(6), rules),
    };
  });
}

function writeDigests(
  { secret, digests, numbers }: RuleDigestColumns,
  rules: readonly PlacedRule[],
): RuleScopeSnapshot['digests'] {
  const peers: RuleSnapshotDigest[] = [];
  for (let i = 0; i * 4 < digests.length; i += 1) {
    const row = numbers.subarray(i * RULE_DIGEST_NUMBERS, (i + 1) * RULE_DIGEST_NUMBERS);
    peers.push([hexOf(digests, i * 4), row[0] as number, writeUsed(row.subarray(1), rules)]);
  }
  return peers.length === 0 ? [] : [{ secret: hexOf(secret, 0), peers }];
}

/** Undefined if nothing is used. */
function writeSingle(
  numbers: Float64Array,
  rules: readonly PlacedRule[],
): RuleScopeSnapshot['single'] {
  const used = writeUsed(numbers.subarray(1), rules);
  if (Object.keys(used).length === 0) return undefined;
  return { idleSeconds: numbers[0] as number, used };
}

function writeUsed(tokens: Float64Array, rules: readonly PlacedRule[]): UsedTokens {
  const used: UsedTokens = {};
  for (const { spec, slot } of rules) {
    const value = tokens[slot] as number;
    if (!Number.isNaN(value)) used[spec.name] = value;
  }
  return used;
}

/** What is restored of one scope. */
interface ReadScope {
  readonly index: number;
  readonly offenders: RuleOffenderColumns;
  readonly digests: readonly RuleDigestColumns[];
  /** Of a single scope: RULE_DIGEST_NUMBERS. Such a scope has nothing else. */
  readonly single: Float64Array | undefined;
}

/**
 * Reads a snapshot or a slice, and returns a function that restores it and returns the number of restored keys. The field
 * `ageSeconds`, which `relay-limiter/persist` adds, is the time since it was taken.
 * @throws `ERR_LIMITER_SNAPSHOT` for the first invalid value, with its path.
 */
export function restoreSlice(
  given: unknown,
  limiter: Restorer,
): (now: number | undefined) => number {
  const {
    format,
    limiter: name,
    ageSeconds = 0,
    scopes,
    ...rest
  } = fields(given, () => 'a snapshot', [
    'format',
    'limiter',
    'ageSeconds',
    'scopes',
    ...SCOPE_FIELDS,
  ]);
  if (format !== FORMAT) throw invalid('format', format, `${FORMAT}`);
  if (name !== LIMITER) throw invalid('limiter', name, show(LIMITER));
  const age = requireNumber(ageSeconds, 'ageSeconds');
  const parts: [unknown, string][] = [];
  if (scopes === undefined) parts.push([rest, '']);
  else if (isArray(scopes)) {
    for (const [i, part] of scopes.entries()) parts.push([part, `scopes[${i}].`]);
  } else throw invalid('scopes', scopes, 'an array');
  const { core, context, maxPeers } = limiter;
  const readAll = () =>
    parts
      .map(([part, path]) => readScope(part, path, age, context))
      .filter((scope) => scope !== undefined);
  let { version } = context;
  let read = readAll();
  // An update may have given the rules other slots, also one that a call of the core has found.
  const scopeAt = (i: number): ReadScope => {
    if (context.version !== version) read = readAll();
    version = context.version;
    return read[i] as ReadScope;
  };
  const restoreOffenders = (i: number, now: number | undefined): number => {
    const { index, offenders, single } = scopeAt(i);
    if (single !== undefined) core.restoreSingle(index, single, now);
    if (offenders.keys.length === 0) return 0;
    const fits = core.statistics(index).peers + offenders.keys.length <= maxPeers;
    return core.restore(index, fits ? offenders : worstFirst(offenders, RULE_OFFENDER_LAYOUT), now);
  };
  const restoreDigests = (i: number, now: number | undefined): number => {
    const { index, digests } = scopeAt(i);
    return digests.reduce((count, group) => count + core.restoreDigests(index, group, now), 0);
  };
  return (now) => {
    const secret = read.flatMap(({ digests }) => digests)[0]?.secret;
    if (secret !== undefined) core.adopt(secret);
    let restored = 0;
    // Offenders come first, so that digests cannot use up their memory.
    for (const restore of [restoreOffenders, restoreDigests]) {
      for (const i of read.keys()) restored += limiter.withRules(() => restore(i, now));
    }
    return restored;
  };
}

const SCOPE_FIELDS = ['scope', 'peers', 'digests', 'single'];

/** Undefined for a scope that the limiter does not have. */
function readScope(
  given: unknown,
  path: string,
  age: number,
  { scopes, book }: LimiterContext,
): ReadScope | undefined {
  const {
    scope: name,
    peers,
    digests,
    single,
  } = fields(given, () => path || 'a slice', SCOPE_FIELDS);
  if (typeof name !== 'string') throw invalid(`${path}scope`, name, 'the name of a scope');
  if (!isArray(peers)) throw invalid(`${path}peers`, peers, 'an array');
  if (!isArray(digests)) throw invalid(`${path}digests`, digests, 'an array');
  // A scope that is single in the snapshot and not here, or the other way round, is another scope.
  const isSingle = single !== undefined;
  const scope = scopes.find(
    (known) => known.name === name && (known.kind === 'single') === isSingle,
  );
  const index = scope?.index ?? -1;
  const rules = book.rules.filter(({ spec }) => spec.scope === index);
  const offenders = readPeers(isSingle ? [] : peers, path, age, rules, book.plan.bans[index]);
  const groups = Array.from({ length: isSingle ? 0 : digests.length }, (_, i) =>
    readGroup(digests[i], `${path}digests[${i}]`, age, rules),
  );
  const state = isSingle ? readSingle(single, `${path}single`, age, rules) : undefined;
  return scope === undefined ? undefined : { index, offenders, digests: groups, single: state };
}

function readSingle(
  given: unknown,
  path: string,
  age: number,
  rules: readonly PlacedRule[],
): Float64Array {
  const { idleSeconds, used } = fields(given, () => path, ['idleSeconds', 'used']);
  const numbers = new Float64Array(RULE_DIGEST_NUMBERS);
  numbers[0] = requireNumber(idleSeconds, `${path}.idleSeconds`) + age;
  readUsed(used, `${path}.used`, rules, numbers, 1);
  return numbers;
}

const PEER_FIELDS = [
  'key',
  'violations',
  'level',
  'banLevel',
  'banSecondsLeft',
  'secondsSinceBan',
  'idleSeconds',
  'used',
];

function readPeers(
  peers: readonly unknown[],
  path: string,
  age: number,
  rules: readonly PlacedRule[],
  bans: RuleBanConfig | undefined,
): RuleOffenderColumns {
  const keys: string[] = [];
  const numbers = new Float64Array(peers.length * RULE_OFFENDER_NUMBERS);
  // By index, as iteration methods skip the holes of a sparse array.
  for (let i = 0; i < peers.length; i += 1) {
    const at = `${path}peers[${i}]`;
    const peer = fields(peers[i], () => at, PEER_FIELDS);
    const { key, violations, banSecondsLeft, secondsSinceBan, used } = peer;
    if (typeof key !== 'string') throw invalid(`${at}.key`, key, 'a string');
    if (!(Number.isSafeInteger(violations) && (violations as number) >= 0)) {
      throw invalid(`${at}.violations`, violations, 'a whole number from 0 to 2^53 - 1');
    }
    const drained = bans === undefined ? 0 : age * (bans.violations / bans.withinSeconds);
    const left = readLeft(banSecondsLeft, `${at}.banSecondsLeft`);
    const since =
      secondsSinceBan === null
        ? Number.NaN
        : requireNumber(secondsSinceBan, `${at}.secondsSinceBan`) + age;
    const isOver = left <= age;
    keys.push(key);
    const row = i * RULE_OFFENDER_NUMBERS;
    numbers[row] = violations as number;
    numbers[row + 1] = Math.max(0, requireNumber(peer['level'], `${at}.level`) - drained);
    numbers[row + 2] = requireNumber(peer['banLevel'], `${at}.banLevel`);
    numbers[row + 3] = isOver ? Number.NaN : left - age;
    numbers[row + 4] = isOver ? age - left : since;
    numbers[row + 5] = requireNumber(peer['idleSeconds'], `${at}.idleSeconds`) + age;
    readUsed(used, `${at}.used`, rules, numbers, row + 6);
  }
  return { keys, numbers };
}

/** The remaining seconds of a ban; NaN without one. */
function readLeft(given: unknown, path: string): number {
  if (given === null) return Number.NaN;
  if (given === 'forever') return Infinity;
  if (typeof given === 'number' && given >= 0 && given < Infinity) return given;
  throw invalid(path, given, "null, 'forever' or a finite number of at least 0");
}

function readGroup(
  given: unknown,
  path: string,
  age: number,
  rules: readonly PlacedRule[],
): RuleDigestColumns {
  const { secret, peers } = fields(given, () => path, ['secret', 'peers']);
  if (!isArray(peers)) throw invalid(`${path}.peers`, peers, 'an array');
  const columns = {
    secret: new Uint32Array(4),
    digests: new Uint32Array(peers.length * 4),
    numbers: new Float64Array(peers.length * RULE_DIGEST_NUMBERS),
  };
  const digits = '32 hexadecimal digits in lower case';
  if (!readHex(secret, columns.secret, 0)) throw invalid(`${path}.secret`, secret, digits);
  for (let i = 0; i < peers.length; i += 1) {
    const at = `${path}.peers[${i}]`;
    const row = peers[i];
    if (!isArray(row) || row.length !== 3) {
      throw invalid(at, row, 'an array of a digest, a number and an object');
    }
    const [digest, idle, used] = row;
    if (!readHex(digest, columns.digests, i * 4) || isZero(columns.digests, i * 4)) {
      throw invalid(`${at}[0]`, digest, `${digits}, not all 0`);
    }
    columns.numbers[i * RULE_DIGEST_NUMBERS] = requireNumber(idle, `${at}[1]`) + age;
    readUsed(used, `${at}[2]`, rules, columns.numbers, i * RULE_DIGEST_NUMBERS + 1);
  }
  return columns;
}

/** Writes the used tokens of each slot; NaN where there are none. Rules that the limiter does not have are skipped. */
function readUsed(
  given: unknown,
  path: string,
  rules: readonly PlacedRule[],
  numbers: Float64Array,
  first: number,
): void {
  if (!isRecord(given)) throw invalid(path, given, 'an object of numbers by rule');
  numbers.fill(Number.NaN, first, first + MAX_RULES);
  for (const [name, tokens] of Object.entries(given)) {
    const value = requireNumber(tokens, `${path}[${show(name)}]`);
    const rule = rules.find(({ spec }) => spec.name === name);
    if (rule !== undefined) numbers[first + rule.slot] = value;
  }
}
