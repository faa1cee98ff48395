// What the fleet's process and its nodes say to each other.

import type { EngineName } from 'relay-limiter';
import type { FailurePolicy } from 'relay-limiter/redis';
import type { ClientName } from './clients.js';

/** The limit of all nodes. */
export interface FleetLimit {
  /** `rate`: a SharedRateLimiter. `rules`: a SharedRuleLimiter with two rules that have this limit. */
  readonly limiter: 'rate' | 'rules';
  readonly mode: 'leased' | 'strict';
  readonly onStoreFailure: FailurePolicy;
  readonly rateLimit: number;
  readonly burstLimit: number;
  readonly leaseSeconds: number;
  readonly deadlineSeconds: number;
}

export interface NodeConfig {
  /** The ports of the store: several of a cluster. */
  readonly ports: readonly number[];
  readonly client: ClientName;
  readonly engine: EngineName;
  readonly limit: FleetLimit;
  /** The number of nodes that share the limit. */
  readonly nodes: number;
  /** The file to which the node appends its log. */
  readonly log: string;
}

/** Sets the number of checks per second, of all peers together; or asks for the state of the node. */
export type ToNode = { kind: 'pace'; checksPerSecond: number } | { kind: 'ask'; question: number };

export interface NodeState {
  readonly store: 'up' | 'down' | 'none';
  /** Whether a message was admitted that was checked after the question before this one. */
  readonly hasAdmitted: boolean;
  /** Heartbeats that were sent. */
  readonly beats: number;
  /** The nodes that the store has counted. */
  readonly nodes: number;
  /** Unspent tokens that are on lease to this node. */
  readonly leasedTokens: number;
}

export type FromNode =
  | { kind: 'ready' }
  | { kind: 'failed'; why: string }
  | { kind: 'state'; question: number; state: NodeState };
