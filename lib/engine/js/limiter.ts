// JsLimiter is the part that all three limiters of the TypeScript engine have in common. Its subclasses decide the
// checks and store the peers.

import { monotonicSeconds } from '../../common/clock.js';
import type { SnapshotPeer } from '../../common/types.js';
import { Keys } from '../../tables/keys.js';
import { MOST_KEYS, type Table } from '../../tables/table.js';
import type { OffenderColumns } from '../columns.js';
import type { EngineStatistics } from '../engine.js';
import { Counters } from './counters.js';
import { Offenders } from './offenders.js';
import { restoreAll } from './records.js';
import { Sweep } from './sweep.js';

export abstract class JsLimiter {
  protected readonly keys = new Keys();
  protected readonly counters = new Counters();
  protected readonly sweep = new Sweep();
  protected readonly offenders: Offenders;
  protected readonly maxPeers: number;

  /** `table` is the one with the notes of Offenders. Tests lower `mostKeys`. */
  protected constructor(maxPeers: number, table: Table, mostKeys = MOST_KEYS) {
    this.maxPeers = Math.min(maxPeers, mostKeys);
    this.offenders = new Offenders(maxPeers, table);
  }

  violations(key: string): number {
    return this.offenders.violations(this.keys.find(key));
  }

  restore(offenders: OffenderColumns, now = monotonicSeconds()): number {
    return restoreAll(offenders, (peer, most) => this.restoreOffender(peer, now, most));
  }

  isCleaning(): boolean {
    return this.sweep.isUnderway;
  }

  statistics(): EngineStatistics {
    return {
      tracked: this.tracked,
      peers: this.peers,
      unnamedOffenders: this.offenders.unnamed,
      totalViolations: this.offenders.totalViolations,
      topViolators: this.offenders.topViolators(),
      ...this.counters.totals(),
    };
  }

  /** The number of peers of which the limiter stores anything, except pending records. */
  protected abstract get peers(): number;
  /** The number of peers with a bucket, or with an interval in a limiter without buckets. */
  protected abstract get tracked(): number;

  /**
   * Restores an offender. False if there are maxPeers peers and none of up to `most` records may be
   * evicted for a new peer.
   */
  protected abstract restoreOffender(peer: SnapshotPeer, now: number, most: number): boolean;
}
