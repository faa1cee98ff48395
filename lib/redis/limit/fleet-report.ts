// FleetReport: tells the store every five seconds what this process has done, and learns the totals of all. One small call
// each time, whatever the number of checks and peers.

import type { StoreClient } from '../store/client.js';
import type { Deadlines } from '../store/deadlines.js';
import { evalInTime } from '../store/eval-in-time.js';
import { type FleetReply, REPORT, readFleetReply } from '../store/fleet-scripts.js';
import { closedError, invalidReplyError } from '../store/replies.js';
import { startTimer, type Timer } from '../store/timing.js';
import { RefusedPeers } from './refused-peers.js';

const REPORT_SECONDS = 5;
/** Peers that a process reports. */
export const MOST_REFUSED = 10;

export interface ReportContext<Name extends string> {
  readonly client: StoreClient;
  readonly key: string;
  readonly nodeId: string;
  readonly deadlines: Deadlines;
  /** The name of the class, for errors. */
  readonly owner: string;
  /** Whether the store is known not to answer. */
  readonly isDown: () => boolean;
  /** The names of the totals, in the order of a report. */
  readonly names: readonly Name[];
  /** What this process has done. */
  readonly ownTotals: () => Record<Name, number>;
}

export class FleetReport<Name extends string> {
  /** The peers that this process has refused. */
  readonly refused = new RefusedPeers();
  /** The totals of all processes at the last report; undefined before the first. */
  totals: Record<Name, number> | undefined;
  readonly #context: ReportContext<Name>;
  /** The totals of the last report that was answered, as a text of the script. */
  #answered: string;
  #timer: Timer | undefined;
  #isClosed = false;

  constructor(context: ReportContext<Name>) {
    this.#context = context;
    this.#answered = context.names.map(() => 0).join(' ');
    this.#reportLater();
  }

  /** Reports, and returns what all processes have reported. @throws (rejects with) `ERR_LIMITER_STORE` */
  readAll(): Promise<FleetReply<Name>> {
    return this.#isClosed ? Promise.reject(closedError(this.#context.owner)) : this.#report('all');
  }

  /** Reports what has not been reported, if the store answers. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    clearTimeout(this.#timer);
    if (this.#context.isDown() || this.#ownTotals() === this.#answered) return;
    await this.#report('totals').catch(() => {});
  }

  #ownTotals(): string {
    const { names, ownTotals } = this.#context;
    const totals = ownTotals();
    return names.map((name) => totals[name]).join(' ');
  }

  #report(wanted: 'all' | 'totals'): Promise<FleetReply<Name>> {
    const { key, nodeId, names } = this.#context;
    const own = this.#ownTotals();
    const peers = JSON.stringify(this.refused.top(MOST_REFUSED));
    return new Promise((resolve, reject) => {
      const args = [nodeId, own, this.#answered, peers, wanted];
      // The store counts a report whenever its reply arrives.
      const learn = (value: unknown) => {
        const reply = readFleetReply(names, value);
        if (reply !== undefined) {
          this.#answered = own;
          this.totals = reply.totals;
        }
        return reply;
      };
      const answered = (value: unknown) => {
        const reply = learn(value);
        if (reply === undefined) reject(invalidReplyError());
        else resolve(reply);
      };
      evalInTime(this.#context, REPORT, [key], args, answered, reject, learn);
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
