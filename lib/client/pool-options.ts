// The options of an UpstreamPool and of its calls, and what they return.

import type { Lease } from './lease.js';
import {
  ACQUIRE_OPTIONS,
  type AcquireOptions,
  LIMITER_OPTIONS,
  type PolicyLimiterOptions,
  UPDATE_OPTIONS,
  type UpdateContext,
} from './options.js';
import type { PolicySnapshot } from './snapshot.js';
import type { NodeState } from './upstream-node.js';

/**
 * The options of an `UpstreamPool`: those of the `PolicyLimiter` of each node (`maxConcurrent` is per node), and of the
 * one queue. The default of `algorithm` is `sliding`: a pool sends as fast as its nodes allow.
 */
export type UpstreamPoolOptions = Omit<PolicyLimiterOptions, 'policies' | 'within'>;

/** The options of `UpstreamPool.acquire`. */
export interface PoolAcquireOptions extends Omit<AcquireOptions, 'within'> {
  /**
   * Hosts to avoid, such as one that has just failed the request. The request goes to one of them only if no
   * other node is ready within a second. Default: none.
   */
  exclude?: readonly string[] | undefined;
}

/** The node that a request must be sent to, and the quota that it has taken there. */
export interface PoolGrant {
  /** The host as in the node file. */
  node: string;
  lease: Lease;
}

/** What `UpstreamPool.update` receives about a response, besides its status and its rate limits. */
export interface PoolUpdateContext extends Omit<UpdateContext, 'lease' | 'within'> {
  /** The lease of the answered request, which identifies the node. */
  lease: Lease;
  /** Seconds from sending the request to its response. Default: the seconds since the lease was granted. */
  latencySeconds?: number | undefined;
}

/** The state of an `UpstreamPool`; a copy. */
export interface UpstreamPoolState {
  /** The number of waiting `acquire` calls. */
  waiting: number;
  /** The state of each node by its host. */
  nodes: Record<string, NodeState>;
}

/** The state of all nodes of an `UpstreamPool`, safe for JSON. */
export interface PoolSnapshot {
  version: 1;
  limiter: 'UpstreamPool';
  nodes: Record<string, PolicySnapshot>;
}

const isOwnOption = (name: string) => name !== 'within';

/** The names of the options of an UpstreamPool, and of its methods `acquire` and `update`. */
export const POOL_OPTIONS = LIMITER_OPTIONS.filter(
  (name) => isOwnOption(name) && name !== 'policies',
);
export const POOL_ACQUIRE_OPTIONS = [...ACQUIRE_OPTIONS.filter(isOwnOption), 'exclude'];
export const POOL_UPDATE_OPTIONS = [...UPDATE_OPTIONS.filter(isOwnOption), 'latencySeconds'];
