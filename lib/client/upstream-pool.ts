// UpstreamPool: several interchangeable upstream nodes with one queue. Each request goes to the node where an
// answer is expected first.

import { type Clock, readClock } from '../common/clock.js';
import { invalidValue, type LimiterError, limiterError, show } from '../common/errors.js';
import { isInstance, isRecord } from '../common/kinds.js';
import { nonNegative, readOptions } from '../common/options.js';
import type { RateLimitInfo } from '../headers/types.js';
import type { Lease } from './lease.js';
import { type NodeFile, parseNodeFile } from './node-file.js';
import {
  type AcquireOptions,
  costTooHigh,
  LIMITER_OPTIONS,
  type PolicyLimiterOptions,
  readAcquireOptions,
  readLimiterOptions,
  type UpdateContext,
} from './options.js';
import type { Policy } from './policies.js';
import { PolicyLimiter } from './policy-limiter.js';
import { type QueuedRequest, WaitQueue } from './queue.js';
import { invalidSnapshot, type PolicySnapshot } from './snapshot.js';
import { NodeLease, type NodeState, UpstreamNode } from './upstream-node.js';

/** The options of an `UpstreamPool`: those of the `PolicyLimiter` of each node, and of the one queue. */
export type UpstreamPoolOptions = Omit<PolicyLimiterOptions, 'policies'>;

/** The options of `UpstreamPool.acquire`. */
export interface PoolAcquireOptions extends AcquireOptions {
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
export interface PoolUpdateContext extends Omit<UpdateContext, 'lease'> {
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

interface PoolRequest extends QueuedRequest {
  readonly exclude: readonly string[];
  /** The deadline by the pool's clock. */
  readonly deadlineAt: number;
}

/** What a request can expect of a node. */
interface Candidate {
  readonly node: UpstreamNode;
  /** Seconds until the request can be sent. */
  readonly wait: number;
  /** Expected seconds from sending the request to its answer. */
  readonly expected: number;
  /** Whether it makes sense to wait for the node. */
  readonly isPromising: boolean;
}

const VERSION = 1;
const KIND = 'UpstreamPool';
/** An excluded node is used only if no other is ready within this time. */
const EXCLUDE_SECONDS = 1;
const ACQUIRE_OPTIONS = ['cost', 'priority', 'signal', 'deadlineSeconds', 'exclude'];
const UPDATE_OPTIONS = [
  'lease',
  'latencySeconds',
  'ageSeconds',
  'refused',
  'violated',
  'contentBytes',
];

/**
 * Distributes requests over several upstream nodes that can answer the same requests, each with its own
 * quotas. A request goes to the node that is expected to answer first, by the node's wait, latency and
 * failures; while no node is ready, requests wait in one queue.
 *
 * @example
 * import { UpstreamPool } from 'relay-limiter/client';
 * import { parseRateLimitHeaders } from 'relay-limiter/headers';
 *
 * const pool = new UpstreamPool({
 *   'one.example': { policies: [{ w: 60, v: 240 }] },
 *   'two.example': { policies: [{ w: 1, v: 10 }] },
 * });
 *
 * const { node, lease } = await pool.acquire({ deadlineSeconds: 30 });
 * try {
 *   const response = await fetch('data:,done'); // stands for `https://${node}/`
 *   pool.update(parseRateLimitHeaders(response.headers), response.status, { lease });
 *   lease.release();
 * } catch {
 *   pool.fail(lease); // no response
 * }
 * console.log(node, pool.state().nodes[node]);
 */
export class UpstreamPool {
  readonly #nodes: ReadonlyMap<string, UpstreamNode>;
  readonly #queue: WaitQueue<NodeLease, PoolRequest>;
  readonly #now: () => number;
  readonly #random: () => number;
  readonly #maxCost: number;
  /** The candidates for the request of the last `#delay` call. `take` follows that call and picks one. */
  #bestCandidates: readonly Candidate[] = [];

  /**
   * @param nodes the hosts and their policies, as an object or as JSON text
   * @throws ERR_LIMITER_OPTION for invalid arguments, naming the host or the option; ERR_LIMITER_CLOCK
   */
  constructor(nodes: NodeFile | string, options?: UpstreamPoolOptions) {
    const names = LIMITER_OPTIONS.filter((name) => name !== 'policies');
    const given = readOptions('UpstreamPool', options, names) as UpstreamPoolOptions;
    const policies = parseNodeFile(nodes);
    const settings = readLimiterOptions({ ...given, policies: [...policies.values()][0] });
    this.#now = neverBackwards(settings.clock);
    this.#random = settings.random;
    this.#queue = new WaitQueue<NodeLease, PoolRequest>(
      {
        now: this.#now,
        delay: (cost, now, request) =>
          cost > request.cost ? this.#backlogDelay(cost, now, request) : this.#delay(now, request),
        take: (cost, now) => pickNode(this.#bestCandidates, this.#random, now).take(cost, now),
      },
      settings,
    );
    const createNode = (host: string, own: readonly Policy[]) => {
      const createLimiter = () => new PolicyLimiter({ ...given, clock: this.#now, policies: own });
      const wake = () => this.#queue.wake();
      return new UpstreamNode(host, own, createLimiter, this.#now, this.#random, wake);
    };
    this.#nodes = new Map([...policies].map(([host, own]) => [host, createNode(host, own)]));
    this.#maxCost = Math.max(...[...this.#nodes.values()].map(({ maxCost }) => maxCost));
  }

  /** The hosts as in the node file. */
  get nodes(): string[] {
    return [...this.#nodes.keys()];
  }

  /**
   * Waits for `cost` units of a node, takes them and resolves to the node and the lease. It chooses the node
   * that is expected to answer first, by the wait, the recent latency and the recent failures. Options, order
   * and errors are those of `PolicyLimiter.acquire`; the cost must fit at least one node. Then send the
   * request at once, call `update` with its response, or `fail` if none came, and release the lease.
   * @throws ERR_LIMITER_DEADLINE, ERR_LIMITER_QUEUE, ERR_LIMITER_COST, ERR_LIMITER_OPTION, ERR_LIMITER_CLOCK
   */
  async acquire(options?: PoolAcquireOptions): Promise<PoolGrant> {
    const { exclude = [], ...rest } = readOptions('acquire', options, ACQUIRE_OPTIONS);
    const request = readAcquireOptions(rest);
    if (!Array.isArray(exclude)) {
      throw invalidValue('ERR_LIMITER_OPTION', 'exclude', exclude, 'an array of hosts');
    }
    if (request.cost > this.#maxCost) {
      throw costTooHigh(request.cost, this.#maxCost, 'the highest cost that a node accepts');
    }
    const deadlineAt = this.#now() + request.deadlineSeconds;
    const lease = await this.#queue.enqueue({ ...request, exclude, deadlineAt });
    return { node: lease.node.name, lease };
  }

  /**
   * Applies a response's rate limits and status, as `PolicyLimiter.update` does, and records its latency. A
   * status of 500 or more counts as a failure.
   * @throws ERR_LIMITER_OPTION for arguments of the wrong type, ERR_LIMITER_CLOCK; then nothing has changed
   */
  update(info: RateLimitInfo, status: number | undefined, context: PoolUpdateContext): void {
    const given = readOptions('update', context, UPDATE_OPTIONS);
    const { lease: givenLease, latencySeconds: _, ...rest } = given;
    const lease = this.#requireOwnLease(givenLease);
    const now = this.#now();
    const seconds = nonNegative(given, 'latencySeconds', now - lease.at);
    lease.node.update(lease, seconds, info, status, rest, now);
  }

  /**
   * Records that no response came: the node failed. Also releases the lease, because the request may have
   * arrived.
   * @throws ERR_LIMITER_OPTION if `lease` is not a lease of this pool, ERR_LIMITER_CLOCK
   */
  fail(lease: Lease): void {
    const own = this.#requireOwnLease(lease);
    own.node.fail(own, this.#now());
  }

  /**
   * Returns a copy of the state of the queue and all nodes. Changes nothing.
   * @throws ERR_LIMITER_CLOCK
   */
  state(): UpstreamPoolState {
    const now = this.#now();
    return { waiting: this.#queue.size, nodes: this.#mapNodes((node) => node.state(now)) };
  }

  /**
   * Returns what is spent, blocked and left on every node as plain JSON-safe data, for `restore` after a
   * restart.
   * @throws ERR_LIMITER_CLOCK
   */
  snapshot(): PoolSnapshot {
    const nodes = this.#mapNodes((node) => node.snapshot());
    return { version: VERSION, limiter: KIND, nodes };
  }

  /**
   * Replaces the state of the nodes by a snapshot, as `PolicyLimiter.restore` does. Hosts that exist only in
   * the snapshot or only in the pool are ignored.
   * @throws ERR_LIMITER_SNAPSHOT, naming the host; ERR_LIMITER_CLOCK; then nothing has changed
   */
  restore(snapshot: object): void {
    const { version, limiter, nodes }: Partial<PoolSnapshot> = isRecord(snapshot) ? snapshot : {};
    if (version !== VERSION || limiter !== KIND || !isRecord(nodes)) {
      throw invalidSnapshot(`it must be a snapshot of an ${KIND}, of version ${VERSION}`);
    }
    const known = [...this.#nodes.values()].filter(({ name }) => Object.hasOwn(nodes, name));
    const restored = known.map((node) => restoreNode(node, nodes[node.name] as PolicySnapshot));
    for (const replaceState of restored) replaceState();
    this.#queue.wake();
  }

  /**
   * Returns the seconds until the request should be sent or the choice be made again, because another node can
   * then be used; 0 means now. Waiting for a node that is not ready makes sense only if that node will have
   * answered before a ready one does. While several requests wait, it must be able to answer all of them in
   * half that time, because a ready node that is left idle answers none.
   */
  #delay(now: number, request: PoolRequest): number {
    const candidates = this.#candidates(now, request);
    const ready = candidates.filter(({ wait }) => wait === 0);
    const best = Math.min(...ready.map(({ expected }) => expected));
    this.#bestCandidates = ready.filter(({ expected }) => expected <= withTolerance(best));
    const others = candidates.filter(({ wait }) => wait > 0);
    const waitingCost = request.cost * Math.max(1, this.#queue.size);
    const answeredAfter = others
      .filter(({ isPromising }) => isPromising)
      .map(({ node, wait, expected }) => {
        return Math.max(wait, node.backlogSeconds(waitingCost)) + expected;
      });
    const factor = this.#queue.size > 1 ? 2 : 1;
    if (ready.length > 0 && factor * withTolerance(Math.min(...answeredAfter)) >= best) return 0;
    return Math.min(...others.map(({ wait }) => wait));
  }

  /** Returns a candidate per node; excluded nodes only if no other is promising and ready soon. */
  #candidates(now: number, { cost, exclude, deadlineAt }: PoolRequest): Candidate[] {
    const candidates = [...this.#nodes.values()].map((node) => {
      const wait = node.waitSeconds(cost, now);
      const isPromising = now + wait <= deadlineAt && !node.isBroken(now);
      return { node, wait, expected: node.expectedSeconds(now), isPromising };
    });
    const others = candidates.filter(({ node }) => !exclude.includes(node.name));
    const suffice = others.some(({ isPromising, wait }) => isPromising && wait <= EXCLUDE_SECONDS);
    return suffice ? others : candidates;
  }

  /**
   * Returns the seconds before which a request and those before it, `cost` units in all, cannot all be sent.
   * At least one node must take its equal share of them.
   */
  #backlogDelay(cost: number, now: number, request: PoolRequest): number {
    const waits = [...this.#nodes.values()].map((node) =>
      Math.max(node.waitSeconds(request.cost, now), node.backlogSeconds(cost / this.#nodes.size)),
    );
    return Math.min(...waits);
  }

  #requireOwnLease(lease: unknown): NodeLease {
    if (isInstance(lease, NodeLease) && this.#nodes.get(lease.node.name) === lease.node) {
      return lease;
    }
    throw invalidValue('ERR_LIMITER_OPTION', 'lease', lease, 'a lease of this pool');
  }

  #mapNodes<T>(map: (node: UpstreamNode) => T): Record<string, T> {
    return Object.fromEntries([...this.#nodes].map(([host, node]) => [host, map(node)]));
  }
}

/** Returns the time up to which an expected time is as good as `seconds`, given how rough the averages are. */
function withTolerance(seconds: number): number {
  return seconds * 1.1 + 0.001;
}

/**
 * Picks two candidates at random and returns the node with fewer requests under way. The random choice keeps
 * one node from attracting all requests.
 */
function pickNode(
  candidates: readonly Candidate[],
  random: () => number,
  now: number,
): UpstreamNode {
  const first = Math.floor(random() * candidates.length);
  const step = 1 + Math.floor(random() * (candidates.length - 1));
  const { node: a } = candidates[first] as Candidate;
  const { node: b } = candidates[(first + step) % candidates.length] as Candidate;
  return b.inFlight(now) < a.inFlight(now) ? b : a;
}

function restoreNode(node: UpstreamNode, snapshot: object): () => void {
  try {
    return node.restore(snapshot);
  } catch (error) {
    const { code, message } = error as LimiterError;
    if (code !== 'ERR_LIMITER_SNAPSHOT') throw error;
    throw limiterError(TypeError, code, `node ${show(node.name)}: ${message}`, error);
  }
}

/** Returns a clock that stands still while the given one steps back. */
function neverBackwards(clock: Clock): () => number {
  let latest = -Infinity;
  return () => {
    latest = Math.max(latest, readClock(clock));
    return latest;
  };
}
