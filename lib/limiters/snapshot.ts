// Snapshots of limiters: what is one, and says so when it is not. Knows no engine.

import { limiterError, refusedNumber, show } from '../common/errors.js';
import { isArray, isRecord } from '../common/kinds.js';
import type {
  LimiterName,
  LimiterSnapshot,
  SnapshotDigest,
  SnapshotDigests,
  SnapshotPeer,
} from '../common/types.js';
import { type DigestColumns, OFFENDER_NUMBERS, type OffenderColumns } from '../engine/columns.js';
import type { SnapshotStep } from '../engine/engine.js';
import { KeySet } from '../tables/key-map.js';

/** The format that is written. The first one had no buckets and no digests; it is read as well. */
const FORMAT = 2;
const FIELDS = { 1: ['format', 'limiter', 'peers'], 2: ['format', 'limiter', 'peers', 'digests'] };
const PEER_FIELDS = {
  1: ['key', 'violations', 'banSecondsLeft', 'idleSeconds'],
  2: ['key', 'violations', 'banSecondsLeft', 'idleSeconds', 'bucket'],
};
type Format = keyof typeof FIELDS;

/** What a limiter can take of a snapshot. */
export interface ReadSnapshot {
  readonly peers: OffenderColumns;
  readonly digests: DigestColumns[];
}

/** A step of an engine as a snapshot by itself. */
export function writeSnapshot(
  limiter: LimiterName,
  { peers, digests }: SnapshotStep,
): LimiterSnapshot {
  return { format: FORMAT, limiter, peers, digests: [writeDigests(digests)] };
}

/** One snapshot of all that the steps of an engine hold. */
export function joinSteps(limiter: LimiterName, steps: Iterable<SnapshotStep>): LimiterSnapshot {
  const peers: SnapshotPeer[] = [];
  const bySecret = new Map<string, SnapshotDigests>();
  for (const step of steps) {
    for (const peer of step.peers) peers.push(peer);
    const { secret, peers: found } = writeDigests(step.digests);
    const known = bySecret.get(secret);
    if (known === undefined) bySecret.set(secret, { secret, peers: found });
    else for (const peer of found) known.peers.push(peer);
  }
  const groups = [...bySecret.values()];
  // A secret is worth telling only with what it was used for.
  const isEmpty = groups.every((group) => group.peers.length === 0);
  return { format: FORMAT, limiter, peers, digests: isEmpty ? [] : groups };
}

/**
 * What a limiter of this name can take of a snapshot: bans are at most `banDuration` seconds, 0 where it
 * bans nobody, and peers whose ban is over are left out.
 * @throws `ERR_LIMITER_SNAPSHOT` naming the first thing that is wrong.
 */
export function readSnapshot(given: unknown, name: LimiterName, banDuration: number): ReadSnapshot {
  const format = formatOf(given);
  const { limiter, peers, digests } = fields(given, () => 'a snapshot', FIELDS[format]);
  if (limiter !== name) throw wrong('limiter', limiter, show(name));
  return {
    peers: readPeers(peers, format, name, banDuration),
    digests: format === 1 ? [] : readDigests(digests),
  };
}

function formatOf(given: unknown): Format {
  if (!isRecord(given)) throw wrong('a snapshot', given, 'an object');
  const { format } = given;
  if (format !== 1 && format !== FORMAT) throw wrong('format', format, `1 or ${FORMAT}`);
  return format;
}

function readPeers(
  peers: unknown,
  format: Format,
  name: LimiterName,
  banDuration: number,
): OffenderColumns {
  if (!isArray(peers)) throw wrong('peers', peers, 'an array');
  requireFitting(peers, 'peers');
  const known = new KeySet();
  const keys: string[] = [];
  const numbers = new Float64Array(peers.length * OFFENDER_NUMBERS);
  // By index: an array with holes has peers that are undefined.
  for (let i = 0; i < peers.length; i += 1) {
    const key = readPeer(peers[i], i, format, name, banDuration, numbers, keys.length);
    known.add(key);
    if (known.size === i) throw wrong(`peers[${i}].key`, key, 'a key that no other peer has');
    // One whose ban is over is left out: the next takes its place.
    if (numbers[keys.length * OFFENDER_NUMBERS + 1] !== 0) keys.push(key);
  }
  return { keys, numbers: numbers.subarray(0, keys.length * OFFENDER_NUMBERS) };
}

/**
 * The banned, then those with the most violations, then those who were idle the shortest: as an
 * eviction ranks them, so that none of them takes the place of one that came before it.
 */
export function worstFirst({ keys, numbers }: OffenderColumns): OffenderColumns {
  const at = (i: number, n: number) => numbers[i * OFFENDER_NUMBERS + n] as number;
  const isBanned = (i: number) => (Number.isNaN(at(i, 1)) ? 0 : 1);
  const idle = (i: number) => Math.min(at(i, 2), Number.MAX_VALUE);
  const order = keys
    .map((_, i) => i)
    .sort((a, b) => isBanned(b) - isBanned(a) || at(b, 0) - at(a, 0) || idle(a) - idle(b));
  const sorted = new Float64Array(numbers.length);
  for (const [i, from] of order.entries()) {
    const begin = from * OFFENDER_NUMBERS;
    sorted.set(numbers.subarray(begin, begin + OFFENDER_NUMBERS), i * OFFENDER_NUMBERS);
  }
  return { keys: order.map((i) => keys[i] as string), numbers: sorted };
}

/**
 * The key of a peer, whose numbers become those at `place`: its ban at most `banDuration` seconds. What it is
 * called in an error is only put together for one.
 */
function readPeer(
  given: unknown,
  i: number,
  format: Format,
  name: LimiterName,
  banDuration: number,
  numbers: Float64Array,
  place: number,
): string {
  const peer = fields(given, () => `peers[${i}]`, PEER_FIELDS[format]);
  const { key, violations, banSecondsLeft, idleSeconds, bucket } = peer;
  const bad = (field: string, accepted: string) =>
    wrong(`peers[${i}].${field}`, peer[field], accepted);
  if (typeof key !== 'string') throw bad('key', 'a string');
  if (!isCount(violations)) throw bad('violations', 'a whole number from 0 to 2^53 - 1');
  if (!isSecondsOrNull(banSecondsLeft)) throw bad('banSecondsLeft', SECONDS_OR_NULL);
  if (!isSecondsOrNull(idleSeconds)) throw bad('idleSeconds', SECONDS_OR_NULL);
  if (banSecondsLeft !== null && name === 'RateLimiter') {
    throw bad('banSecondsLeft', 'null: a RateLimiter bans nobody');
  }
  if (violations === 0 && banSecondsLeft === null) {
    throw bad('violations', 'at least 1 where there is no ban');
  }
  const at = place * OFFENDER_NUMBERS;
  numbers[at] = violations;
  numbers[at + 1] = banSecondsLeft === null ? Number.NaN : Math.min(banSecondsLeft, banDuration);
  numbers[at + 2] = idleSeconds ?? Infinity;
  if (format === 1 || bucket === null) numbers[at + 3] = Number.NaN;
  else readBucket(bucket, `peers[${i}].bucket`, numbers, at + 3);
  return key;
}

function readBucket(given: unknown, path: string, numbers: Float64Array, at: number): void {
  const { tokens, idleSeconds } = fields(given, () => path, ['tokens', 'idleSeconds']);
  numbers[at] = requireNumber(tokens, `${path}.tokens`);
  numbers[at + 1] = requireNumber(idleSeconds, `${path}.idleSeconds`);
}

function writeDigests({ secret, digests, numbers }: DigestColumns): SnapshotDigests {
  const peers: SnapshotDigest[] = [];
  for (let i = 0; i * 4 < digests.length; i += 1) {
    const [idle, tokens, bucketIdle] = numbers.subarray(i * 3, i * 3 + 3);
    const hasBucket = !Number.isNaN(tokens);
    peers.push([
      hexOf(digests, i * 4),
      Number.isNaN(idle) ? null : (idle as number),
      hasBucket ? (tokens as number) : null,
      hasBucket ? (bucketIdle as number) : null,
    ]);
  }
  return { secret: hexOf(secret, 0), peers };
}

function readDigests(given: unknown): DigestColumns[] {
  if (!isArray(given)) throw wrong('digests', given, 'an array');
  // By index, as above.
  return Array.from({ length: given.length }, (_, i) => readGroup(given[i], `digests[${i}]`));
}

function readGroup(given: unknown, path: string): DigestColumns {
  const { secret, peers } = fields(given, () => path, ['secret', 'peers']);
  if (!isArray(peers)) throw wrong(`${path}.peers`, peers, 'an array');
  requireFitting(peers, `${path}.peers`);
  const columns = {
    secret: new Uint32Array(4),
    digests: new Uint32Array(peers.length * 4),
    numbers: new Float64Array(peers.length * 3),
  };
  if (!readHex(secret, columns.secret, 0)) throw wrong(`${path}.secret`, secret, HEX_DIGITS);
  for (let i = 0; i < peers.length; i += 1) {
    readDigest(peers[i], () => `${path}.peers[${i}]`, columns, i);
  }
  return columns;
}

function readDigest(
  given: unknown,
  path: () => string,
  { digests, numbers }: DigestColumns,
  i: number,
): void {
  if (!isArray(given) || given.length !== 4) {
    throw wrong(path(), given, 'an array of a digest and three numbers or null');
  }
  const [digest, idle, tokens, bucketIdle] = given;
  if (!readHex(digest, digests, i * 4) || isZero(digests, i * 4)) {
    throw wrong(`${path()}[0]`, digest, `${HEX_DIGITS}, not all 0`);
  }
  if ((tokens === null) !== (bucketIdle === null)) {
    throw wrong(`${path()}[3]`, bucketIdle, 'null where there are no tokens, and only there');
  }
  if (idle === null && tokens === null) {
    throw wrong(path(), given, 'a digest with an idle time, a bucket, or both');
  }
  for (let n = 0; n < 3; n += 1) {
    const value: unknown = given[n + 1];
    if (!isSecondsOrNull(value)) throw wrong(`${path()}[${n + 1}]`, value, SECONDS_OR_NULL);
    numbers[i * 3 + n] = value ?? Number.NaN;
  }
}

function isZero(words: Uint32Array, at: number): boolean {
  return words[at] === 0 && words[at + 1] === 0 && words[at + 2] === 0 && words[at + 3] === 0;
}

/** Four words as 32 hexadecimal digits. Seven times as fast as toString and padStart. */
function hexOf(words: Uint32Array, at: number): string {
  for (let i = 0; i < 32; i += 1) {
    const digit = ((words[at + (i >> 3)] as number) >>> (28 - 4 * (i & 7))) & 15;
    codes[i] = digit < 10 ? ZERO + digit : A + digit - 10;
  }
  return String.fromCharCode(...codes);
}

const codes = new Array<number>(32).fill(0);
const ZERO = '0'.charCodeAt(0);
const A = 'a'.charCodeAt(0);
const HEX_DIGITS = '32 hexadecimal digits in lower case';

/** Far more than a limiter can keep, and few enough for an array of numbers. */
const MOST_PEERS = 2 ** 26;

function requireFitting({ length }: readonly unknown[], path: string): void {
  if (length <= MOST_PEERS) return;
  throw wrong(`${path}.length`, length, `at most ${MOST_PEERS}`);
}

/** False if it is none. Twice as fast as a pattern and parseInt. */
function readHex(given: unknown, words: Uint32Array, at: number): boolean {
  if (typeof given !== 'string' || given.length !== 32) return false;
  for (let i = 0; i < 32; i += 1) {
    const digit = digitOf(given.charCodeAt(i));
    if (digit < 0) return false;
    words[at + (i >> 3)] = ((words[at + (i >> 3)] as number) << 4) | digit;
  }
  return true;
}

/** -1 if it is none. */
function digitOf(code: number): number {
  if (code >= ZERO && code < ZERO + 10) return code - ZERO;
  return code >= A && code < A + 6 ? code - A + 10 : -1;
}

function requireNumber(given: unknown, path: string): number {
  if (typeof given === 'number' && given >= 0 && given < Infinity) return given;
  throw wrong(path, given, 'a finite number of at least 0');
}

const SECONDS_OR_NULL = 'null or a finite number of at least 0';

function isSecondsOrNull(given: unknown): given is number | null {
  return given === null || (typeof given === 'number' && given >= 0 && given < Infinity);
}

function isCount(given: unknown): given is number {
  return Number.isSafeInteger(given) && (given as number) >= 0;
}

/** Those of an object that has all of `names` and no others. */
function fields(
  given: unknown,
  path: () => string,
  names: readonly string[],
): Readonly<Record<string, unknown>> {
  if (!isRecord(given)) throw wrong(path(), given, 'an object');
  for (const name of Object.keys(given)) {
    if (names.includes(name)) continue;
    const message = `${path()} must have ${names.join(', ')} and nothing else, got ${show(name)}`;
    throw limiterError(TypeError, 'ERR_LIMITER_SNAPSHOT', message);
  }
  return given;
}

function wrong(path: string, given: unknown, accepted: string): Error {
  return refusedNumber('ERR_LIMITER_SNAPSHOT', path, given, accepted);
}
