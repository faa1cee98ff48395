// What a server's responses report of one policy, and what a snapshot keeps of that.

import type { Cost } from './cost.js';

/** Identifies a policy: by its name, or without a name by its quota (draft 07), and by its partition. */
export interface PolicyKey {
  readonly name: string | null;
  readonly quota: number | null;
  readonly partitionKey: string | null;
}

/** A response's report of what remains. */
export interface RemainingReport {
  readonly remaining: number;
  /**
   * Units that the server may not have counted in `remaining`, because their requests were under way at some
   * time while the answered request was.
   */
  readonly uncounted: Cost;
  /** The units among `uncounted` that are still under way. */
  readonly underWay: Cost;
  /** The units of the answered request, if they were under way until now. */
  readonly own: Cost;
  readonly resetSeconds: number;
  /** The units of a whole window, if the server reports them. */
  readonly quota: number | null;
  /** Whether the server has not rounded the reset to whole seconds. */
  readonly isExact: boolean;
  /** Whether the server gave no reset, so that `resetSeconds` is an assumption. */
  readonly isAssumed: boolean;
  /** The number of the answered request. */
  readonly number: number;
}

/** What a snapshot keeps of a policy's remaining units and of its block. Seconds are 0 once they have passed. */
export interface RemainingState {
  readonly remaining: number;
  /** Seconds for which `remaining` must last. */
  readonly resetSeconds: number;
  /** Seconds for which no request may be sent. */
  readonly blockedSeconds: number;
  /** Not there if no reports agree on the reset. */
  readonly agreed?: SavedAgreement;
}

/** What a snapshot keeps of the reports that agree on a reset. */
export interface SavedAgreement {
  /** Seconds until the reset. */
  readonly resetSeconds: number;
  /** Seconds from the first to the last report that agrees on it. */
  readonly seconds: number;
}

/** What a snapshot keeps of a policy's window. */
export interface WindowState {
  readonly quota: number;
  readonly windowSeconds: number;
  readonly unit: string;
  /** Seconds for which the policy stays in force if the server does not report it again. */
  readonly staysSeconds: number;
  readonly state: readonly number[];
}
