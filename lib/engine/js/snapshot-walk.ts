// A walk visits everything that a snapshot stores of a limiter, in bounded steps. Between two steps the limiter may be
// used. Counterpart of native/limiters/snapshot-walk.h.
//
// The offenders with a stored key come first, in the order of their first violations. All other peers follow, under
// digests.

import { monotonicSeconds } from '../../common/clock.js';
import type { SnapshotBucket, SnapshotPeer } from '../../common/types.js';
import { elapsed, secondsLeft } from '../../tables/arithmetic.js';
import type { Keys } from '../../tables/keys.js';
import type { Buckets, Place, Table, Times } from '../../tables/table.js';
import { SNAPSHOT_SECONDS, type SnapshotStep } from '../engine.js';
import type { Offenders } from './offenders.js';
import { type PendingRecords, wordsOf } from './pending.js';
import { savedBucket } from './records.js';

/** The saved numbers of a record; undefined if it is back in its initial state within SNAPSHOT_SECONDS. */
type Save<Records extends Table> = (
  records: Records,
  place: Place,
  now: number,
) => DigestNumbers | undefined;

type DigestNumbers = readonly [idleSeconds: number, tokens: number, bucketIdleSeconds: number];

/** A pass over one table, with records that a snapshot stores under digests of one secret. */
interface Pass {
  secret(): Uint32Array;
  readonly size: number;
  entries(): Iterable<[string, Place]>;
  /** Undefined for a record that a snapshot leaves out. */
  save(key: string, place: Place, now: number): DigestNumbers | undefined;
  digestOf(key: string): ArrayLike<number>;
  /** Whether the records may belong to offenders; a pending record does not. */
  readonly mayHaveOffenders: boolean;
}

/** What a walk needs of a limiter. */
export interface WalkedLimiter {
  readonly keys: Keys;
  readonly offenders: Offenders;
  readonly banDuration: number;
  /** The fields of an offender that are not in Offenders. */
  describe(key: string, now: number): Pick<SnapshotPeer, 'idleSeconds' | 'bucket'>;
  /**
   * Each pass is created when it begins. Pending records come first: a peer that is checked meanwhile is visited again
   * in its table.
   */
  passes(): Iterable<Pass>;
}

/** The number of offenders that one step collects. */
const COLLECTED = 10_000;

export function* walk(
  walked: WalkedLimiter,
  most: number,
  read: () => number | undefined,
): Generator<SnapshotStep> {
  const { keys, offenders } = walked;
  const last = offenders.lastOrder;
  const noDigests = () => ({
    secret: keys.secret,
    digests: new Uint32Array(),
    numbers: new Float64Array(),
  });
  // Offenders that are newer than `last` are visited among the other peers.
  const order: string[] = [];
  for (const key of offenders.inOrder(last)) {
    order.push(key);
    if (order.length % COLLECTED === 0) yield { peers: [], digests: noDigests() };
  }
  for (let at = 0; at < order.length || at === 0; at += most) {
    const now = read() ?? monotonicSeconds();
    const peers: SnapshotPeer[] = [];
    for (const key of order.slice(at, at + most)) addOffender(walked, key, now, peers);
    yield { peers, digests: noDigests() };
  }
  for (const pass of walked.passes()) yield* visitOthers(walked, pass, last, most, read);
}

function addOffender(
  { offenders, banDuration, describe }: WalkedLimiter,
  key: string,
  now: number,
  peers: SnapshotPeer[],
): void {
  const found = offenders.findForSnapshot(key, now, banDuration);
  if (found !== undefined) peers.push({ ...found, ...describe(key, now) });
}

function* visitOthers(
  walked: WalkedLimiter,
  { secret, size, entries, save, digestOf, mayHaveOffenders }: Pass,
  last: number,
  most: number,
  read: () => number | undefined,
): Generator<SnapshotStep> {
  const { offenders, banDuration } = walked;
  let now = read() ?? monotonicSeconds();
  let peers: SnapshotPeer[] = [];
  let words: number[] = [];
  let numbers: number[] = [];
  const step = (): SnapshotStep => {
    const digests = {
      secret: secret(),
      digests: Uint32Array.from(words),
      numbers: Float64Array.from(numbers),
    };
    const result = { peers, digests };
    peers = [];
    words = [];
    numbers = [];
    return result;
  };
  let visited = 0;
  for (const [key, place] of entries()) {
    // As many records as there were when the pass began. Without this bound, a flood of new peers could keep it running
    // forever.
    if (visited === size) break;
    const isOffender =
      mayHaveOffenders && offenders.findForSnapshot(key, now, banDuration) !== undefined;
    const saved = isOffender ? undefined : save(key, place, now);
    if (isOffender && offenders.isNewerThan(key, last)) addOffender(walked, key, now, peers);
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

/** The passes over the pending records of each secret, then the pass over the table. */
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
      mayHaveOffenders: false,
    };
  }
  yield {
    // Read at each step: the limiter may adopt another secret during the walk, if it has no peers then.
    secret: () => keys.secret,
    size: table.size,
    entries: () => table.entries(),
    save: (_, place, now) => save(table, place, now),
    digestOf: (key) => keys.digestOf(key),
    mayHaveOffenders: true,
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
