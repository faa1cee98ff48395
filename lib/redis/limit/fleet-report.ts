// FleetReport: tells the store every five seconds what this process has done, and learns the totals of all. One small call
// each time, whatever the number of checks and peers.

import type { StoreClient } from '../store/client.js';
import { type Deadlines, PendingReply } from '../store/deadlines.js';
import {
  type FleetReply,
  type FleetTotals,
  REPORT,
  readFleetReply,
  TOTALS,
  totalsText,
} from '../store/fleet-scripts.js';
import { closedError, invalidReplyError, messageOf, storeError } from '../store/replies.js';
import { startTimer, type Timer } from '../store/timing.js';
import { RefusedPeers } from './refused-peers.js';

const REPORT_SECONDS = 5;
/** Peers that a process reports. */
export const MOST_REFUSED = 10;

export interface ReportContext {
  readonly client: StoreClient;
  readonly key: string;
  readonly nodeId: string;
  readonly deadlines: Deadlines;
  /** The name of the class, for errors. */
  readonly owner: string;
  /** Whether the store is known not to answer. */
  readonly isDown: () => boolean;
  /** What this process has done. */
  readonly ownTotals: () => FleetTotals;
}

export class FleetReport {
  /** The peers that this process has refused. */
  readonly refused = new RefusedPeers();
  /** The totals of all processes at the last report; undefined before the first. */
  totals: FleetTotals | undefined;
  readonly #context: ReportContext;
  #answered = totalsText(Object.fromEntries(TOTALS.map((name) => [name, 0])) as FleetTotals);
  #timer: Timer | undefined;
  #isClosed = false;

  constructor(context: ReportContext) {
    this.#context = context;
    this.#reportLater();
  }

  /** Reports, and returns what all processes have reported. @throws (rejects with) `ERR_LIMITER_STORE` */
  readAll(): Promise<FleetReply> {
    return this.#isClosed ? Promise.reject(closedError(this.#context.owner)) : this.#report('all');
  }

  /** Reports what has not been reported, if the store answers. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    clearTimeout(this.#timer);
    const { isDown, ownTotals } = this.#context;
    if (isDown() || totalsText(ownTotals()) === this.#answered) return;
    await this.#report('totals').catch(() => {});
  }

  #report(wanted: 'all' | 'totals'): Promise<FleetReply> {
    const { client, key, nodeId, deadlines, ownTotals } = this.#context;
    const own = totalsText(ownTotals());
    const peers = JSON.stringify(this.refused.top(MOST_REFUSED));
    return new Promise((resolve, reject) => {
      const pending = new PendingReply(reject);
      deadlines.add(pending);
      client.eval(REPORT, [key], [nodeId, own, this.#answered, peers, wanted]).then(
        (value) => {
          const reply = readFleetReply(value);
          if (reply !== undefined) {
            this.#answered = own;
            this.totals = reply.totals;
          }
          if (!pending.end()) return;
          if (reply === undefined) reject(invalidReplyError());
          else resolve(reply);
        },
        (error) => {
          if (pending.end()) reject(storeError(messageOf(error), error));
        },
      );
    });
  }

  #reportLater(): void {
    if (this.#isClosed) return;
    this.#timer = startTimer(() => {
      const reported = this.#context.isDown() ? Promise.resolve() : this.#report('totals');
      reported.then(
        () => this.#reportLater(),
        () => this.#reportLater(),
      );
    }, REPORT_SECONDS * 1000);
  }
}
