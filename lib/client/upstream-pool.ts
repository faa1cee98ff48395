// UpstreamPool: several interchangeable upstream nodes with one queue. Each request goes to the node where an
// answer is expected first.

import { invalidValue, type LimiterError, limiterError, show } from '../common/errors.js';
import { isArray, isInstance, isRecord } from '../common/kinds.js';
import { nonNegative, readOptions } from '../common/options.js';
import type { RateLimitInfo } from '../headers/types.js';
import { Activity, closedError } from './activity.js';
import { amountOf, type Cost, REQUESTS, times } from './cost.js';
import type { Lease } from './lease.js';
import { type ChoiceRequest, chooseNodes, pickNode, probeSeconds } from './node-choice.js';
import { type NodeFile, type NodeSettings, parseNodeFile } from './node-file.js';
import { costTooHigh, readAcquireOptions, readLimiterOptions, requireFunction } from './options.js';
import { PolicyLimiter } from './policy-limiter.js';
import {
  POOL_ACQUIRE_OPTIONS,
  POOL_OPTIONS,
  POOL_UPDATE_OPTIONS,
  type PoolAcquireOptions,
  type PoolGrant,
  type PoolSnapshot,
  type PoolUpdateContext,
  type UpstreamPoolOptions,
  type UpstreamPoolState,
} from './pool-options.js';
import { type QueuedRequest, WaitQueue } from './queue.js';
import { invalidSnapshot, type PolicySnapshot } from './snapshot.js';
import { neverBackwards } from './time.js';
import { NodeLease, UpstreamNode } from './upstream-node.js';

interface PoolRequest extends QueuedRequest, ChoiceRequest {
  readonly cost: Cost;
}

const VERSION = 1;
const KIND = 'UpstreamPool';

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
  #nodes: ReadonlyMap<string, UpstreamNode> = new Map();
  /** All nodes that the pool has had: leases of removed nodes stay valid. */
  readonly #ownNodes = new WeakSet<UpstreamNode>();
  readonly #queue: WaitQueue<NodeLease, PoolRequest>;
  readonly #activity: Activity;
  readonly #createNode: (host: string, settings: NodeSettings) => UpstreamNode;
  readonly #now: () => number;
  readonly #random: () => number;
  /** The nodes for the request of the last `#delay` call. `take` follows that call and picks one. */
  #bestNodes: readonly UpstreamNode[] = [];

  /**
   * @param nodes the hosts and their policies, as an object or as JSON text
   * @throws ERR_LIMITER_OPTION for invalid arguments, naming the host or the option; ERR_LIMITER_CLOCK
   */
  constructor(nodes: NodeFile | string, options?: UpstreamPoolOptions) {
    const own = readOptions('UpstreamPool', options, POOL_OPTIONS) as UpstreamPoolOptions;
    const given = { ...own, algorithm: own.algorithm ?? 'sliding' };
    const file = parseNodeFile(nodes);
    const [first] = file.values() as Iterable<NodeSettings>;
    const settings = readLimiterOptions({ ...given, policies: (first as NodeSettings).policies });
    this.#now = neverBackwards(settings.clock);
    this.#random = settings.random;
    this.#queue = new WaitQueue<NodeLease, PoolRequest>(
      {
        now: this.#now,
        delay: (now, request) => this.#delay(now, request),
        backlogDelay: (cost, now, request) => this.#backlogDelay(cost, now, request),
        take: (now, { cost }) => this.#take(cost, now),
      },
      settings,
    );
    this.#activity = new Activity(this.#queue);
    const createLimiter = ({ policies }: NodeSettings) =>
      new PolicyLimiter({ ...given, clock: this.#now, policies });
    const wake = () => this.#queue.wake();
    this.#createNode = (host, nodeSettings) =>
      new UpstreamNode(host, nodeSettings, createLimiter, this.#now, this.#random, wake);
    this.#setNodes(file);
  }

  /** The hosts as in the node file. */
  get nodes(): string[] {
    return [...this.#nodes.keys()];
  }

  /**
   * Returns how requests are sent to a node: its path, headers and timeout; undefined for a host that the pool does
   * not have.
   */
  settingsOf(host: string): NodeSettings | undefined {
    return this.#nodes.get(host)?.settings;
  }

  /**
   * Waits for `cost` of a node, takes it and resolves to the node and the lease. It chooses the node
   * that is expected to answer first, by the wait, the recent latency and the recent failures. Options, order
   * and errors are those of `PolicyLimiter.acquire`; the cost must fit at least one node. Then send the
   * request at once, call `update` with its response, or `fail` if none came, and release the lease.
   * @throws ERR_LIMITER_DEADLINE, ERR_LIMITER_QUEUE, ERR_LIMITER_CLOSED, ERR_LIMITER_COST, ERR_LIMITER_OPTION,
   * ERR_LIMITER_CLOCK
   */
  async acquire(options?: PoolAcquireOptions): Promise<PoolGrant> {
    const { exclude = [], ...rest } = readOptions('acquire', options, POOL_ACQUIRE_OPTIONS);
    const request = readAcquireOptions(rest);
    if (!isArray(exclude)) {
      throw invalidValue('ERR_LIMITER_OPTION', 'exclude', exclude, 'an array of hosts');
    }
    this.#requireCostOfNode(request.cost);
    if (this.#activity.isClosed) throw closedError();
    const deadlineAt = this.#now() + request.deadlineSeconds;
    this.#activity.wait();
    try {
      const lease = await this.#queue.enqueue({
        ...request,
        exclude: exclude as string[],
        deadlineAt,
      });
      return { node: lease.node.name, lease };
    } catch (error) {
      this.#activity.check();
      throw error;
    }
  }

  /**
   * Calls `fn` with a node and its lease when the limits allow it, and resolves to its result. The lease ends when the
   * promise of `fn` settles. If it rejects before `update` was called, the node has failed.
   * @throws ERR_LIMITER_OPTION if `fn` is not a function, the errors of `acquire`, and what `fn` throws
   */
  async run<T>(
    fn: (node: string, lease: Lease) => T | PromiseLike<T>,
    options?: PoolAcquireOptions,
  ): Promise<T> {
    requireFunction(fn, 'fn');
    const { node, lease } = await this.acquire(options);
    try {
      return await fn(node, lease);
    } catch (error) {
      if (!(lease as NodeLease).isAnswered) this.fail(lease);
      throw error;
    } finally {
      lease.release();
    }
  }

  /**
   * Applies a response's rate limits and status, as `PolicyLimiter.update` does, and records its latency. A
   * status of 500 or more counts as a failure, and one of 400 to 499 where other nodes do not answer so.
   * @throws ERR_LIMITER_OPTION for arguments of the wrong type, ERR_LIMITER_CLOCK; then nothing has changed
   */
  update(info: RateLimitInfo, status: number | undefined, context: PoolUpdateContext): void;
  /**
   * Replaces the nodes while requests wait and are under way, as `PolicyLimiter.update` replaces policies. What is
   * known of a host is kept if both files have it.
   * @throws ERR_LIMITER_OPTION, naming the host; then nothing has changed
   */
  update(nodes: NodeFile | string): void;
  update(
    given: RateLimitInfo | NodeFile | string,
    status?: number,
    context?: PoolUpdateContext,
  ): void {
    if (context === undefined && !isInfo(given)) {
      this.#setNodes(parseNodeFile(given));
      this.#queue.wake();
      return;
    }
    const read = readOptions('update', context, POOL_UPDATE_OPTIONS);
    const { lease: givenLease, latencySeconds: _, ...rest } = read;
    const lease = this.#requireOwnLease(givenLease);
    const now = this.#now();
    const seconds = nonNegative(read, 'latencySeconds', now - lease.at);
    lease.node.update(lease, seconds, given as RateLimitInfo, status, rest, now);
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
   * Returns the seconds from now after which a request should be given up as a failed probe, because its node is not known
   * to answer and other nodes are: ten times their latency, at least 3. Infinity for any other request. `limitFetch` uses
   * it. O(nodes).
   * @throws ERR_LIMITER_OPTION if `lease` is not a lease of this pool, ERR_LIMITER_CLOCK
   */
  probeSeconds(lease: Lease): number {
    const { node } = this.#requireOwnLease(lease);
    return probeSeconds([...this.#nodes.values()], node, this.#now());
  }

  /** Resolves when fewer than `maxQueue` calls wait; at once if that is so. */
  ready(): Promise<void> {
    return this.#queue.whenPlace();
  }

  /** Resolves when no call waits and all leases have ended; at once if that is so. */
  idle(): Promise<void> {
    return this.#activity.whenIdle();
  }

  /** Accepts no new calls, and resolves when the waiting calls have been served and all leases have ended. */
  drain(): Promise<void> {
    return this.#activity.drain();
  }

  /** Accepts no new calls, and rejects the waiting ones with `ERR_LIMITER_CLOSED`. Leases stay valid. */
  close(): void {
    this.#activity.close();
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
   * Replaces the state of the nodes by a snapshot, as `PolicyLimiter.restore` does. Returns the hosts whose state in
   * the snapshot was not used, because their policies have changed since; they begin anew. Hosts that exist only in
   * the snapshot or only in the pool are ignored.
   * @throws ERR_LIMITER_SNAPSHOT if the snapshot is invalid, naming the host; ERR_LIMITER_CLOCK; then nothing has
   * changed
   */
  restore(snapshot: object): string[] {
    const { version, limiter, nodes }: Partial<PoolSnapshot> = isRecord(snapshot) ? snapshot : {};
    if (version !== VERSION || limiter !== KIND || !isRecord(nodes)) {
      throw invalidSnapshot(`it must be a snapshot of an ${KIND}, of version ${VERSION}`);
    }
    const known = [...this.#nodes.values()].filter(({ name }) => Object.hasOwn(nodes, name));
    const restored = known.map((node) => restoreNode(node, nodes[node.name] as PolicySnapshot));
    for (const replaceState of restored) replaceState?.();
    this.#queue.wake();
    return known.filter((_, index) => restored[index] === null).map(({ name }) => name);
  }

  #setNodes(file: ReadonlyMap<string, NodeSettings>): void {
    const previous = this.#nodes;
    this.#nodes = new Map(
      [...file].map(([host, own]) => [host, previous.get(host) ?? this.#createNode(host, own)]),
    );
    // Only now, because a node whose policies change serves the queue.
    for (const [host, node] of this.#nodes) {
      this.#ownNodes.add(node);
      if (previous.has(host)) node.configure(file.get(host) as NodeSettings);
    }
  }

  /** Returns the seconds until the request should be sent or the choice be made again; 0 means now. */
  #delay(now: number, request: PoolRequest): number {
    this.#requireCostOfNode(request.cost);
    const { delay, nodes } = chooseNodes([...this.#nodes.values()], request, this.#queue.size, now);
    this.#bestNodes = nodes;
    return delay;
  }

  /**
   * Returns the seconds before which a request and those before it, `cost` in all, cannot all be sent.
   * At least one node must take its equal share of them.
   */
  #backlogDelay(cost: Cost, now: number, request: PoolRequest): number {
    const share = times(cost, 1 / this.#nodes.size);
    const waits = [...this.#nodes.values()].map((node) =>
      Math.max(node.waitSeconds(request.cost, now), node.backlogSeconds(share)),
    );
    return Math.min(...waits);
  }

  #take(cost: Cost, now: number): NodeLease {
    const node = pickNode(this.#bestNodes, this.#random, now);
    const lease = node.take(cost, now, () => {
      this.#activity.end();
      this.#activity.check();
    });
    this.#activity.begin();
    return lease;
  }

  #requireCostOfNode(cost: Cost): void {
    const nodes = [...this.#nodes.values()];
    if (nodes.some((node) => node.exceededUnit(cost) === undefined)) return;
    const unit = nodes[0]?.exceededUnit(cost) ?? REQUESTS;
    const highest = Math.max(...nodes.map((node) => node.maxCost(unit)));
    const reason = 'the highest cost that a node accepts';
    throw costTooHigh(amountOf(cost, unit), highest, reason);
  }

  #requireOwnLease(lease: unknown): NodeLease {
    if (isInstance(lease, NodeLease) && this.#ownNodes.has(lease.node)) {
      return lease;
    }
    throw invalidValue('ERR_LIMITER_OPTION', 'lease', lease, 'a lease of this pool');
  }

  #mapNodes<T>(map: (node: UpstreamNode) => T): Record<string, T> {
    return Object.fromEntries([...this.#nodes].map(([host, node]) => [host, map(node)]));
  }
}

/** Tells a RateLimitInfo from a node file: a node is no array. */
function isInfo(given: unknown): boolean {
  return isRecord(given) && isArray(given['limits']) && isArray(given['policies']);
}

function restoreNode(node: UpstreamNode, snapshot: object): (() => void) | null {
  try {
    return node.restore(snapshot);
  } catch (error) {
    const { code, message } = error as LimiterError;
    if (code !== 'ERR_LIMITER_SNAPSHOT') throw error;
    throw limiterError(TypeError, code, `node ${show(node.name)}: ${message}`, error);
  }
}
