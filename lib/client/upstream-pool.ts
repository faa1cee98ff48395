// UpstreamPool: several upstreams that can do the same, and one queue for all of them. Each request goes
// where it is expected to be answered first.

import { type Clock, readClock } from '../common/clock.js';
import { type LimiterError, limiterError, refused, show } from '../common/errors.js';
import { isInstance, isRecord } from '../common/kinds.js';
import { nonNegative, readOptions } from '../common/options.js';
import type { RateLimitInfo } from '../headers/types.js';
import type { Lease } from './lease.js';
import { type NodeFile, parseNodeFile } from './node-file.js';
import type { AcquireOptions, PolicyLimiterOptions } from './options.js';
import { costTooHigh, LIMITER_OPTIONS, readRequest, readSettings } from './options.js';
import type { Policy } from './policies.js';
import { PolicyLimiter, type UpdateContext } from './policy-limiter.js';
import { type Request, WaitQueue } from './queue.js';
import { type PolicySnapshot, unreadable } from './snapshot.js';
import { NodeLease, type NodeState, UpstreamNode } from './upstream-node.js';

/** The options of a PolicyLimiter, for each node and for the queue. */
export type UpstreamPoolOptions = Omit<PolicyLimiterOptions, 'policies'>;

export interface PoolAcquireOptions extends AcquireOptions {
  /**
   * Hosts that it should rather not go to, such as one that has just failed it: it does so only where no
   * other is ready within a second. Default: none.
   */
  exclude?: readonly string[] | undefined;
}

/** Where a request is to go, and the quota it has taken there. */
export interface PoolGrant {
  /** The host, as the node file has it. */
  node: string;
  lease: Lease;
}

export interface PoolUpdateContext extends Omit<UpdateContext, 'lease'> {
  /** The lease of the request: it says which node has answered. */
  lease: Lease;
  /** From sending the request to its response. Default: since the lease was given. */
  latencySeconds?: number | undefined;
}

export interface UpstreamPoolState {
  /** How many `acquire` calls wait. */
  waiting: number;
  nodes: Record<string, NodeState>;
}

/** The state of all nodes, safe for JSON. */
export interface PoolSnapshot {
  version: typeof VERSION;
  limiter: typeof KIND;
  nodes: Record<string, PolicySnapshot>;
}

interface PoolRequest extends Request {
  readonly exclude: readonly string[];
  /** By the pool's clock. */
  readonly deadlineAt: number;
}

/** What a request can expect of a node. */
interface Offer {
  readonly node: UpstreamNode;
  /** Seconds until it may go there, and from then to the answer. */
  readonly wait: number;
  readonly expected: number;
  /** Whether it is worth waiting for. */
  readonly isPromising: boolean;
}

const VERSION = 1;
const KIND = 'UpstreamPool';
const AVOID_SECONDS = 1;
const ACQUIRE_OPTIONS = ['cost', 'priority', 'signal', 'deadlineSeconds', 'exclude'];
const UPDATE_OPTIONS = ['lease', 'latencySeconds', 'ageSeconds', 'violated', 'contentBytes'];

export class UpstreamPool {
  readonly #nodes: ReadonlyMap<string, UpstreamNode>;
  readonly #queue: WaitQueue<NodeLease, PoolRequest>;
  readonly #now: () => number;
  readonly #random: () => number;
  readonly #most: number;
  /** Where the request may go whose delay was asked for last. */
  #best: readonly Offer[] = [];

  /**
   * @param nodes hosts and their policies, as JSON text or as what that says
   * @throws `ERR_LIMITER_OPTION` for what is not accepted, naming the host or the option;
   * `ERR_LIMITER_CLOCK`
   */
  constructor(nodes: NodeFile | string, options?: UpstreamPoolOptions) {
    const names = LIMITER_OPTIONS.filter((name) => name !== 'policies');
    const given = readOptions('UpstreamPool', options, names) as UpstreamPoolOptions;
    const policies = parseNodeFile(nodes);
    const settings = readSettings({ ...given, policies: [...policies.values()][0] });
    this.#now = steady(settings.clock);
    this.#random = settings.random;
    this.#queue = new WaitQueue<NodeLease, PoolRequest>(
      {
        now: this.#now,
        delay: (cost, now, request) =>
          cost > request.cost ? this.#earliest(cost, now, request) : this.#delay(now, request),
        take: (cost, now) => lessBusy(this.#best, this.#random, now).take(cost, now),
      },
      settings,
    );
    const node = (host: string, own: readonly Policy[]) => {
      const makeLimiter = () => new PolicyLimiter({ ...given, clock: this.#now, policies: own });
      const changed = () => this.#queue.wake();
      return new UpstreamNode(host, own, makeLimiter, this.#now, this.#random, changed);
    };
    this.#nodes = new Map([...policies].map(([host, own]) => [host, node(host, own)]));
    this.#most = Math.max(...[...this.#nodes.values()].map(({ most }) => most));
  }

  /** Hosts, as the node file has them. */
  get nodes(): string[] {
    return [...this.#nodes.keys()];
  }

  /**
   * Waits for `cost` units of a node and takes them: of the node where the answer is expected first, by
   * its wait, its latency lately, and its failures lately. Options, order and errors are those of
   * `PolicyLimiter.acquire`; a cost must fit at least one node. Then send the request at once, tell
   * `update` of its response or `fail` that there was none, and release the lease.
   */
  async acquire(options?: PoolAcquireOptions): Promise<PoolGrant> {
    const { exclude = [], ...rest } = readOptions('acquire', options, ACQUIRE_OPTIONS);
    const request = readRequest(rest);
    if (!Array.isArray(exclude)) {
      throw refused('ERR_LIMITER_OPTION', 'exclude', exclude, 'an array of hosts');
    }
    if (request.cost > this.#most) throw costTooHigh(request.cost, this.#most);
    const deadlineAt = this.#now() + request.deadlineSeconds;
    const lease = await this.#queue.enter({ ...request, exclude, deadlineAt });
    return { node: lease.node.name, lease };
  }

  /**
   * Takes in what a response said, and its status, as `PolicyLimiter.update` does, and how long it took.
   * A status of 500 or more counts as a failure.
   * @throws `ERR_LIMITER_OPTION` for arguments of the wrong kind, `ERR_LIMITER_CLOCK`, changing nothing.
   */
  update(info: RateLimitInfo, status: number | undefined, context: PoolUpdateContext): void {
    const given = readOptions('update', context, UPDATE_OPTIONS);
    const { lease: taken, latencySeconds: _, ...rest } = given;
    const lease = this.#ownLease(taken);
    const now = this.#now();
    const seconds = nonNegative(given, 'latencySeconds', now - lease.at);
    lease.node.update(lease, seconds, info, status, rest, now);
  }

  /**
   * No response came: the node failed. Releases the lease too, since the request may have arrived.
   * @throws `ERR_LIMITER_OPTION` for what is no lease of this pool, `ERR_LIMITER_CLOCK`.
   */
  fail(lease: Lease): void {
    const own = this.#ownLease(lease);
    own.node.fail(own, this.#now());
  }

  /** How things stand. Changes nothing. @throws `ERR_LIMITER_CLOCK` */
  state(): UpstreamPoolState {
    const now = this.#now();
    return { waiting: this.#queue.size, nodes: this.#each((node) => node.state(now)) };
  }

  /**
   * What is spent, blocked and left on every node, as plain data that JSON keeps, for `restore` after a
   * restart. @throws `ERR_LIMITER_CLOCK`
   */
  snapshot(): PoolSnapshot {
    return { version: VERSION, limiter: KIND, nodes: this.#each((node) => node.snapshot()) };
  }

  /**
   * Puts a snapshot in the place of what is known of the nodes it names, as `PolicyLimiter.restore` does.
   * Nodes that only it or only the pool has are passed over.
   * @throws `ERR_LIMITER_SNAPSHOT` naming the host, `ERR_LIMITER_CLOCK`. Nothing has changed then.
   */
  restore(snapshot: object): void {
    const { version, limiter, nodes }: Partial<PoolSnapshot> = isRecord(snapshot) ? snapshot : {};
    if (version !== VERSION || limiter !== KIND || !isRecord(nodes)) {
      throw unreadable(`it is none of an ${KIND}, or not of version ${VERSION}`);
    }
    const known = [...this.#nodes.values()].filter(({ name }) => Object.hasOwn(nodes, name));
    const restored = known.map((node) => restoreNode(node, nodes[node.name] as PolicySnapshot));
    for (const adopt of restored) adopt();
    this.#queue.wake();
  }

  /**
   * How long until it should go, or until that is to be asked again, when another node may be gone to. A
   * node that is not ready is waited for only if it will have answered before a ready one does; where
   * others wait as well, all of them, in half that time: an idle node serves nobody.
   */
  #delay(now: number, request: PoolRequest): number {
    const offers = this.#offers(now, request);
    const ready = offers.filter(({ wait }) => wait === 0);
    const best = Math.min(...ready.map(({ expected }) => expected));
    this.#best = ready.filter(({ expected }) => expected <= noWorseThan(best));
    const others = offers.filter(({ wait }) => wait > 0);
    const waiting = request.cost * Math.max(1, this.#queue.size);
    const later = others
      .filter(({ isPromising }) => isPromising)
      .map(({ node, wait, expected }) => {
        return Math.max(wait, node.backlogSeconds(waiting)) + expected;
      });
    const patience = this.#queue.size > 1 ? 2 : 1;
    if (ready.length > 0 && patience * noWorseThan(Math.min(...later)) >= best) return 0;
    return Math.min(...others.map(({ wait }) => wait));
  }

  /** What each node offers; those it is to avoid only where no other is good, at once or soon. */
  #offers(now: number, { cost, exclude, deadlineAt }: PoolRequest): Offer[] {
    const offers = [...this.#nodes.values()].map((node) => {
      const wait = node.waitSeconds(cost, now);
      const isPromising = now + wait <= deadlineAt && !node.isBroken(now);
      return { node, wait, expected: node.expectedSeconds(now), isPromising };
    });
    const others = offers.filter(({ node }) => !exclude.includes(node.name));
    const isThere = others.some((offer) => offer.isPromising && offer.wait <= AVOID_SECONDS);
    return isThere ? others : offers;
  }

  /** Seconds before which a request and those before it cannot all have gone: some node has to take its
   * share of them. */
  #earliest(cost: number, now: number, request: PoolRequest): number {
    const waits = [...this.#nodes.values()].map((node) =>
      Math.max(node.waitSeconds(request.cost, now), node.backlogSeconds(cost / this.#nodes.size)),
    );
    return Math.min(...waits);
  }

  #ownLease(lease: unknown): NodeLease {
    if (isInstance(lease, NodeLease) && this.#nodes.get(lease.node.name) === lease.node) {
      return lease;
    }
    throw refused('ERR_LIMITER_OPTION', 'lease', lease, 'a lease of this pool');
  }

  #each<T>(of: (node: UpstreamNode) => T): Record<string, T> {
    return Object.fromEntries([...this.#nodes].map(([host, node]) => [host, of(node)]));
  }
}

/** Up to here a time is as good as `seconds`, as far as such averages can tell. */
function noWorseThan(seconds: number): number {
  return seconds * 1.1 + 0.001;
}

/** Of two at random the one with fewer requests under way: nobody's favourite is everybody's. */
function lessBusy(offers: readonly Offer[], random: () => number, now: number): UpstreamNode {
  const first = Math.floor(random() * offers.length);
  const step = 1 + Math.floor(random() * (offers.length - 1));
  const { node: a } = offers[first] as Offer;
  const { node: b } = offers[(first + step) % offers.length] as Offer;
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

/** A clock that steps back stands still. */
function steady(clock: Clock): () => number {
  let latest = -Infinity;
  return () => {
    latest = Math.max(latest, readClock(clock));
    return latest;
  };
}
