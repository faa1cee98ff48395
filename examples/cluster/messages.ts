// The messages between the processes of the demonstration.

import type { RateLimiterOptions } from 'relay-limiter';

/** The options of a worker's limiter. */
export type WorkerConfig = Pick<
  RateLimiterOptions,
  'rateLimit' | 'burstLimit' | 'maxPeers' | 'shared'
>;

/** What a worker has decided so far. */
export interface Counts {
  kind: 'counts';
  admitted: number;
  refused: number;
  /** The interval of each admission since the last report, in seconds of the machine's monotonic clock. */
  admissions: [from: number, at: number][];
}

export type FromWorker = { kind: 'listening'; port: number } | Counts;

/** Asks a worker for its last counts; it ends when the cluster disconnects it. */
export type ToWorker = 'report';

/** The name of the peer that floods all workers. */
export const FLOODER = 'mallory';

export interface FloodConfig {
  port: number;
  connections: number;
  /** Messages per second in all. */
  rate: number;
}
