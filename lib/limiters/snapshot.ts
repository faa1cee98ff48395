// Reads and writes snapshots of limiters. A snapshot is validated whole before anything of it is restored.

import { show } from '../common/errors.js';
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
import { hexOf, isZero, readHex } from './digest-text.js';
import { fields, invalid, requireNumber } from './snapshot-fields.js';

/** The format that is written. Format 1, without buckets and digests, can be read too. */
const FORMAT = 2;
const FIELDS = { 1: ['format', 'limiter', 'peers'], 2: ['format', 'limiter', 'peers', 'digests'] };
const PEER_FIELDS = {
  1: ['key', 'violations', 'banSecondsLeft', 'idleSeconds'],
  2: ['key', 'violations', 'banSecondsLeft', 'idleSeconds', 'bucket'],
};
type Format = keyof typeof FIELDS;

/** A snapshot in the form that an engine restores. */
export interface ReadSnapshot {
  readonly peers: OffenderColumns;
  readonly digests: DigestColumns[];
}

/** Returns a step of an engine as a snapshot by itself. */
export function writeSnapshot(
  limiter: LimiterName,
  { peers, digests }: SnapshotStep,
): LimiterSnapshot {
  return { format: FORMAT, limiter, peers, digests: [writeDigests(digests)] };
}

/** Joins all steps of an engine into one snapshot. */
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
  // A secret without digests is of no use.
  const isEmpty = groups.every((group) => group.peers.length === 0);
  return { format: FORMAT, limiter, peers, digests: isEmpty ? [] : groups };
}

/**
 * Reads a snapshot for a limiter of the given name. Bans become at most `banDuration` seconds long (0 for a limiter
 * without bans), and peers with an expired ban are left out.
 * @throws `ERR_LIMITER_SNAPSHOT` for the first invalid value, with its path.
 */
export function readSnapshot(given: unknown, name: LimiterName, banDuration: number): ReadSnapshot {
  const format = formatOf(given);
  const { limiter, peers, digests } = fields(given, () => 'a snapshot', FIELDS[format]);
  if (limiter !== name) throw invalid('limiter', limiter, show(name));
  return {
    peers: readPeers(peers, format, name, banDuration),
    digests: format === 1 ? [] : readDigests(digests),
  };
}

function formatOf(given: unknown): Format {
  if (!isRecord(given)) throw invalid('a snapshot', given, 'an object');
  const { format } = given;
  if (format !== 1 && format !== FORMAT) throw invalid('format', format, `1 or ${FORMAT}`);
  return format;
}

function readPeers(
  peers: unknown,
  format: Format,
  name: LimiterName,
  banDuration: number,
): OffenderColumns {
  if (!isArray(peers)) throw invalid('peers', peers, 'an array');
  requireArraySize(peers, 'peers');
  const keys: string[] = [];
  const numbers = new Float64Array(peers.length * OFFENDER_NUMBERS);
  // By index, as iteration methods skip the holes of a sparse array: a hole is an invalid peer.
  for (let i = 0; i < peers.length; i += 1) {
    const key = readPeer(peers[i], i, format, name, banDuration, numbers, keys.length);
    // A peer with an expired ban is left out: the next peer overwrites its numbers.
    if (numbers[keys.length * OFFENDER_NUMBERS + 1] !== 0) keys.push(key);
  }
  return { keys, numbers: numbers.subarray(0, keys.length * OFFENDER_NUMBERS) };
}

/**
 * Returns the key of a peer and writes its numbers to row `row`, with a ban of at most `banDuration` seconds. The path
 * for an error message is built only if there is an error.
 */
function readPeer(
  given: unknown,
  i: number,
  format: Format,
  name: LimiterName,
  banDuration: number,
  numbers: Float64Array,
  row: number,
): string {
  const peer = fields(given, () => `peers[${i}]`, PEER_FIELDS[format]);
  const { key, violations, banSecondsLeft, idleSeconds, bucket } = peer;
  const invalidField = (field: string, accepted: string) =>
    invalid(`peers[${i}].${field}`, peer[field], accepted);
  if (typeof key !== 'string') throw invalidField('key', 'a string');
  if (!isCount(violations)) throw invalidField('violations', 'a whole number from 0 to 2^53 - 1');
  if (!isSecondsOrNull(banSecondsLeft)) throw invalidField('banSecondsLeft', SECONDS_OR_NULL);
  if (!isSecondsOrNull(idleSeconds)) throw invalidField('idleSeconds', SECONDS_OR_NULL);
  if (banSecondsLeft !== null && name === 'RateLimiter') {
    throw invalidField('banSecondsLeft', 'null, as a RateLimiter has no bans');
  }
  if (violations === 0 && banSecondsLeft === null) {
    throw invalidField('violations', 'at least 1 without a ban');
  }
  const at = row * OFFENDER_NUMBERS;
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
  if (!isArray(given)) throw invalid('digests', given, 'an array');
  // By index, as in `readPeers`.
  return Array.from({ length: given.length }, (_, i) => readGroup(given[i], `digests[${i}]`));
}

function readGroup(given: unknown, path: string): DigestColumns {
  const { secret, peers } = fields(given, () => path, ['secret', 'peers']);
  if (!isArray(peers)) throw invalid(`${path}.peers`, peers, 'an array');
  requireArraySize(peers, `${path}.peers`);
  const columns = {
    secret: new Uint32Array(4),
    digests: new Uint32Array(peers.length * 4),
    numbers: new Float64Array(peers.length * 3),
  };
  if (!readHex(secret, columns.secret, 0)) throw invalid(`${path}.secret`, secret, HEX_DIGITS);
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
    throw invalid(path(), given, 'an array of a digest and three numbers or null');
  }
  const [digest, idle, tokens, bucketIdle] = given;
  if (!readHex(digest, digests, i * 4) || isZero(digests, i * 4)) {
    throw invalid(`${path()}[0]`, digest, `${HEX_DIGITS}, not all 0`);
  }
  if ((tokens === null) !== (bucketIdle === null)) {
    throw invalid(`${path()}[3]`, bucketIdle, 'null if the tokens are null, and only then');
  }
  if (idle === null && tokens === null) {
    throw invalid(path(), given, 'a digest with an idle time, a bucket, or both');
  }
  for (let n = 0; n < 3; n += 1) {
    const value: unknown = given[n + 1];
    if (!isSecondsOrNull(value)) throw invalid(`${path()}[${n + 1}]`, value, SECONDS_OR_NULL);
    numbers[i * 3 + n] = value ?? Number.NaN;
  }
}

const HEX_DIGITS = '32 hexadecimal digits in lower case';

/** The most peers in a snapshot: far more than a limiter can store, and few enough for a typed array of numbers. */
const MAX_PEERS = 2 ** 26;

function requireArraySize({ length }: readonly unknown[], path: string): void {
  if (length <= MAX_PEERS) return;
  throw invalid(`${path}.length`, length, `at most ${MAX_PEERS}`);
}

const SECONDS_OR_NULL = 'null or a finite number of at least 0';

function isSecondsOrNull(given: unknown): given is number | null {
  return given === null || (typeof given === 'number' && given >= 0 && given < Infinity);
}

function isCount(given: unknown): given is number {
  return Number.isSafeInteger(given) && (given as number) >= 0;
}
