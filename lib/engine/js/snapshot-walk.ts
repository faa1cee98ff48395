// Visits all that a snapshot holds of a limiter, in steps between which the limiter may go on. Twin of
// native/snapshot-walk.h.

import { monotonicSeconds } from '../../clock.js';
import type { SnapshotBucket, SnapshotPeer } from '../../types.js';
import { SNAPSHOT_SECONDS, type SnapshotStep } from '../engine.js';
import { elapsed, secondsLeft } from './arithmetic.js';
import type { Keys } from './keys.js';
import type { Offenders } from './offenders.js';
import { type PendingRecords, wordsOf } from './pending.js';
import { savedBucket } from './records.js';
import type { Buckets, Place, Table, Times } from './table.js';

/** What a snapshot says of a record; undefined if it is as a fresh peer's within SNAPSHOT_SECONDS. */
type Save<Records extends Table> = (
  records: Records,
  place: Place,
  now: number,
) => DigestNumbers | undefined;

type DigestNumbers = readonly [idleSeconds: number, tokens: number, bucketIdleSeconds: number];

/** A table whose records a snapshot has under digests of one secret. */
interface Pass {
  readonly secret: Uint32Array;
  entries(): Iterable<[string, Place]>;
  /** Undefined of a record that a snapshot leaves out. */
  save(key: string, place: Place, now: number): DigestNumbers | undefined;
  digestOf(key: string): ArrayLike<number>;
}

/** What a limiter tells of itself. */
export interface Walked {
  readonly keys: Keys;
  readonly offenders: Offenders;
  readonly banDuration: number;
  /** What the snapshot says of an offender besides its offences. */
  describe(key: string, now: number): Pick<SnapshotPeer, 'idleSeconds' | 'bucket'>;
  readonly passes: readonly Pass[];
}

export function* walk(
  { keys, offenders, banDuration, describe, passes }: Walked,
  most: number,
  read: () => number | undefined,
): Generator<SnapshotStep> {
  let now = read() ?? monotonicSeconds();
  let peers: SnapshotPeer[] = [];
  const none = { secret: keys.secret, digests: new Uint32Array(), numbers: new Float64Array() };
  let visited = 0;
  for (const key of offenders.inOrder()) {
    const listed = offenders.listed(key, now, banDuration);
    if (listed !== undefined) peers.push({ ...listed, ...describe(key, now) });
    visited += 1;
    if (visited % most !== 0) continue;
    yield { peers, digests: none };
    peers = [];
    now = read() ?? monotonicSeconds();
  }
  yield { peers, digests: none };
  for (const pass of passes) yield* digests(pass, most, read);
}

function* digests(
  { secret, entries, save, digestOf }: Pass,
  most: number,
  read: () => number | undefined,
): Generator<SnapshotStep> {
  let now = read() ?? monotonicSeconds();
  let words: number[] = [];
  let numbers: number[] = [];
  const step = (): SnapshotStep => {
    const columns = {
      secret,
      digests: Uint32Array.from(words),
      numbers: Float64Array.from(numbers),
    };
    words = [];
    numbers = [];
    return { peers: [], digests: columns };
  };
  let visited = 0;
  for (const [key, place] of entries()) {
    const saved = save(key, place, now);
    if (saved !== undefined) {
      const digest = digestOf(key);
      for (let i = 0; i < digest.length; i += 1) words.push(digest[i] as number);
      numbers.push(...saved);
    }
    visited += 1;
    if (visited % most !== 0) continue;
    yield step();
    now = read() ?? monotonicSeconds();
  }
  yield step();
}

/** The records of peers that are not among the named offenders, and those that wait. */
export function passesOf<Records extends Table>(
  table: Records,
  pending: PendingRecords<Records>,
  save: Save<Records>,
  { keys, offenders, banDuration }: Pick<Walked, 'keys' | 'offenders' | 'banDuration'>,
): Pass[] {
  const own: Pass = {
    secret: keys.secret,
    entries: () => table.entries(),
    save: (key, place, now) =>
      offenders.listed(key, now, banDuration) === undefined ? save(table, place, now) : undefined,
    digestOf: (key) => keys.digestOf(key),
  };
  const waiting = pending.groups().map(
    ({ secret, records }): Pass => ({
      secret,
      entries: () => records.entries(),
      save: (_, place, now) => save(records, place, now),
      digestOf: wordsOf,
    }),
  );
  return [own, ...waiting];
}

export function saveBucket(rate: number, capacity: number): Save<Buckets> {
  return (buckets, place, now) => {
    const saved: SnapshotBucket | null = savedBucket(buckets, place, now, rate, capacity);
    return saved === null ? undefined : [Number.NaN, saved.tokens, saved.idleSeconds];
  };
}

export function saveTime(interval: number): Save<Times> {
  return (times, place, now) => {
    const idle = elapsed(now, times.at(place));
    return secondsLeft(interval, idle) > SNAPSHOT_SECONDS ? [idle, Number.NaN, 0] : undefined;
  };
}
