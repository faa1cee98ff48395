// Visits all that a snapshot holds of a limiter, in steps between which the limiter may go on. Twin of
// native/limiters/snapshot-walk.h.

import { monotonicSeconds } from '../../common/clock.js';
import type { SnapshotBucket, SnapshotPeer } from '../../common/types.js';
import { elapsed, secondsLeft } from '../../tables/arithmetic.js';
import type { Keys } from '../../tables/keys.js';
import type { Buckets, Place, Table, Times } from '../../tables/table.js';
import { SNAPSHOT_SECONDS, type SnapshotStep } from '../engine.js';
import type { Offenders } from './offenders.js';
import { type PendingRecords, wordsOf } from './pending.js';
import { savedBucket } from './records.js';

/** Returns the saved numbers of a record; undefined if its peer recovers fully within SNAPSHOT_SECONDS. */
type Save<Records extends Table> = (
  records: Records,
  place: Place,
  now: number,
) => DigestNumbers | undefined;

type DigestNumbers = readonly [idleSeconds: number, tokens: number, bucketIdleSeconds: number];

/** Records that a snapshot has under digests of one secret. */
interface Pass {
  /** Undefined: nobody has any. */
  secret(): Uint32Array | undefined;
  readonly size: number;
  entries(): Iterable<[string, Place]>;
  /** Undefined of a record that a snapshot leaves out. */
  save(key: string, place: Place, now: number): DigestNumbers | undefined;
  digestOf(key: string): ArrayLike<number>;
  /** Whether the peers may be offenders. */
  readonly hasKeys: boolean;
}

/** What a limiter tells of itself. */
export interface Walked {
  readonly keys: Keys;
  readonly offenders: Offenders;
  readonly banDuration: number;
  /** What the snapshot says of an offender besides its offences. */
  describe(key: string, now: number): Pick<SnapshotPeer, 'idleSeconds' | 'bucket'>;
  /** Made when their turn comes, those that are awaited first: one that comes back meanwhile is visited again. */
  passes(): Iterable<Pass>;
}

/** Offenders whose keys are collected in one step. */
const COLLECTED = 10_000;

export function* walk(
  walked: Walked,
  most: number,
  read: () => number | undefined,
): Generator<SnapshotStep> {
  const { keys, offenders } = walked;
  const last = offenders.lastOrder;
  const none = () => ({
    secret: keys.secret,
    digests: new Uint32Array(),
    numbers: new Float64Array(),
  });
  // All at first: those that come later are told with the others.
  const order: string[] = [];
  for (const key of offenders.inOrder(last)) {
    order.push(key);
    if (order.length % COLLECTED === 0) yield { peers: [], digests: none() };
  }
  for (let at = 0; at < order.length || at === 0; at += most) {
    const now = read() ?? monotonicSeconds();
    const peers: SnapshotPeer[] = [];
    for (const key of order.slice(at, at + most)) tellOffender(walked, key, now, peers);
    yield { peers, digests: none() };
  }
  for (const pass of walked.passes()) yield* others(walked, pass, last, most, read);
}

function tellOffender(
  { offenders, banDuration, describe }: Walked,
  key: string,
  now: number,
  peers: SnapshotPeer[],
): boolean {
  const listed = offenders.findForSnapshot(key, now, banDuration);
  if (listed === undefined) return false;
  peers.push({ ...listed, ...describe(key, now) });
  return true;
}

function* others(
  walked: Walked,
  { secret, size, entries, save, digestOf, hasKeys }: Pass,
  last: number,
  most: number,
  read: () => number | undefined,
): Generator<SnapshotStep> {
  const { keys, offenders, banDuration } = walked;
  let now = read() ?? monotonicSeconds();
  let peers: SnapshotPeer[] = [];
  let words: number[] = [];
  let numbers: number[] = [];
  const step = (): SnapshotStep => {
    const digests = {
      secret: secret() ?? keys.secret,
      digests: Uint32Array.from(words),
      numbers: Float64Array.from(numbers),
    };
    const told = { peers, digests };
    peers = [];
    words = [];
    numbers = [];
    return told;
  };
  let visited = 0;
  for (const [key, place] of entries()) {
    // Those that were there as it began: it would follow a flood of newcomers for ever.
    if (visited === size) break;
    const isOffender = hasKeys && offenders.findForSnapshot(key, now, banDuration) !== undefined;
    const saved = isOffender ? undefined : save(key, place, now);
    if (isOffender && offenders.isNewerThan(key, last)) tellOffender(walked, key, now, peers);
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

/** First the records that wait, then those of peers. */
export function* passesOf<Records extends Table>(
  table: Records,
  pending: PendingRecords<Records>,
  save: Save<Records>,
  keys: Keys,
): Generator<Pass> {
  for (const { secret, records } of [...pending.groups()]) {
    yield {
      secret: () => secret,
      size: records.size,
      entries: () => records.entries(),
      save: (_, place, now) => save(records, place, now),
      digestOf: wordsOf,
      hasKeys: false,
    };
  }
  yield {
    // Another one once the limiter has taken it over, which knows nobody then.
    secret: () => keys.secret,
    size: table.size,
    entries: () => table.entries(),
    save: (_, place, now) => save(table, place, now),
    digestOf: (key) => keys.digestOf(key),
    hasKeys: true,
  };
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
