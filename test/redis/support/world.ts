// World: nodes of one limit and a simulated store, in virtual time.

import { expect } from 'vitest';
import type { EngineName } from '../../../lib/index.js';
import { SharedRateLimiter } from '../../../lib/redis/index.js';
import { leaseLifetimes } from '../../../lib/redis/store/limit.js';
import { type Admission, excess } from '../../../out/examples/fleet/bound.js';
import { NO_NODE, SimulatedStore } from './simulated-store.js';
import { VirtualTime } from './virtual-time.js';

/** The class from lib/, which the simulated store is made for. The class of the built package is a different one. */
export type WorldNode = SharedRateLimiter;

/** The rounding error of sums of epoch seconds. */
export const ROUNDING = 1e-3;

export interface WorldOptions {
  /** Default: native if it is available. */
  engine?: EngineName;
  rateLimit: number;
  burstLimit: number;
  leaseSeconds?: number;
  disconnectThreshold?: number;
  deadlineSeconds?: number;
  onStoreFailure?: 'share' | 'open' | 'closed';
  mode?: 'leased' | 'strict';
  clock?: () => number;
  nodes?: number;
  /** Whether the client is one of a cluster, so that each shard has a state of its own. */
  isCluster?: boolean;
}

/** The store answers at once, unless a field says otherwise. */
export class World {
  readonly time = new VirtualTime();
  readonly store: SimulatedStore;
  readonly nodes: SharedRateLimiter[];
  readonly admissions: Admission[] = [];
  /** Whether the store refuses all calls. */
  isAway = false;
  /** Nodes without a network: the store refuses only their calls. */
  readonly disconnected = new Set<SharedRateLimiter | undefined>();
  /** Whether calls are held: neither answered nor refused. */
  isSilent = false;
  /** Whether replies are lost after the script has run. */
  losesReplies = false;
  /** Seconds that a call and its reply take together. */
  roundTripSeconds = 0;
  clockReads = 0;
  /** Seconds by which the store's clock is ahead. */
  clockAhead = 0;
  #held: (() => void)[] = [];
  readonly #options: Omit<WorldOptions, 'isCluster'>;
  readonly #isCluster: boolean;

  constructor(nodes: number, { isCluster = false, ...options }: WorldOptions) {
    this.time.install();
    this.#isCluster = isCluster;
    this.#options = { leaseSeconds: 20, ...options };
    const { leaseSeconds = 20, deadlineSeconds = 0.1 } = options;
    const times = leaseLifetimes(leaseSeconds, deadlineSeconds);
    const limit = { disconnectThreshold: null, ...options, ...times };
    this.store = new SimulatedStore(limit, () => this.time.now + this.clockAhead);
    this.nodes = Array.from({ length: nodes }, () => this.start());
  }

  /** Starts one more node, with other options if they are given. */
  start(options: Partial<WorldOptions> = {}): SharedRateLimiter {
    const { rateLimit, burstLimit } = { ...this.#options, ...options };
    this.store.learn({ rateLimit, burstLimit });
    // Undefined while the constructor runs.
    let node: SharedRateLimiter | undefined;
    const call = (method: 'eval' | 'evalSha') => {
      return async (text: string, options: { keys: string[]; arguments: string[] }) => {
        if (this.isSilent) await new Promise<void>((resume) => this.#held.push(resume));
        if (this.isAway || this.disconnected.has(node))
          throw new Error('Socket closed unexpectedly');
        await this.#halfRoundTrip();
        const reply = this.store[method](text, options.keys, options.arguments);
        await this.#halfRoundTrip();
        if (this.losesReplies && !text.includes('INFO')) throw new Error('Socket closed');
        return reply;
      };
    };
    const nothing = () => {};
    const cluster = this.#isCluster ? { slots: [], masters: [] } : {};
    const client = { ...cluster, on: nothing, off: nothing, connect: nothing, destroy: nothing };
    node = new SharedRateLimiter({
      client: { ...client, eval: call('eval'), evalSha: call('evalSha') },
      clock: () => {
        this.clockReads += 1;
        return this.time.now;
      },
      ...this.#options,
      ...options,
    });
    return node;
  }

  /** Ends the silence: held calls go on. */
  endSilence(): void {
    this.isSilent = false;
    for (const resume of this.#held.splice(0)) resume();
  }

  async #halfRoundTrip(): Promise<void> {
    const { roundTripSeconds } = this;
    if (roundTripSeconds > 0)
      await new Promise<void>((go) => this.time.after(roundTripSeconds / 2, go));
  }

  /** Makes one check and returns whether it was admitted. `isSync`: by `check`, not by `checkAsync`. */
  async check(node: SharedRateLimiter, cost = 1, isSync = false): Promise<boolean> {
    const verdict = isSync ? node.check('p', cost) : node.checkAsync('p', cost);
    await this.time.run(0.0001);
    const [action] = await verdict;
    if (action === 'allow') this.admissions.push({ at: this.time.now, cost });
    return action === 'allow';
  }

  /** Makes the two checks after which the node has a lease: the first check of a peer leases nothing. */
  async lease(node: SharedRateLimiter): Promise<void> {
    for (let n = 0; n < 2; n += 1) await this.check(node);
  }

  /** Makes checks until the first refusal. */
  async spendAll(node: SharedRateLimiter): Promise<void> {
    while (await this.check(node)) {}
  }

  /** Spends as much of the node's lease as is possible without a call of the store. */
  async spendLease(node: SharedRateLimiter): Promise<void> {
    const { leasedTokens, store } = node.getStats();
    for (let n = 1; n < leasedTokens * 0.74; n += 1) await this.check(node, 1, true);
    expect(node.getStats().store.calls).toBe(store.calls);
  }

  /** Unspent tokens that are on lease, as the nodes count them. */
  leasedAtNodes(): number {
    return this.nodes.reduce((sum, node) => sum + node.getStats().leasedTokens, 0);
  }

  /** Unspent tokens that are on lease, as the store counts them. */
  leasedInStore(): number {
    const leases = [...this.store.buckets.values()].flatMap((bucket) => bucket.leases);
    const ofNodes = leases.filter(({ nodeId }) => nodeId !== NO_NODE);
    return ofNodes.reduce((sum, { amount }) => sum + amount, 0);
  }

  /** Makes the store lose its data in an outage that all nodes notice. */
  async loseData(): Promise<void> {
    this.isAway = true;
    for (const node of this.nodes) {
      while (node.getStats().store.state === 'up') {
        node.check('another peer');
        await this.time.run(0.001);
      }
    }
    this.store.restart();
    this.isAway = false;
  }

  /** Lets time pass until all nodes have noticed that the store answers. */
  async untilUp(): Promise<void> {
    while (this.nodes.some((node) => node.getStats().store.state === 'down')) {
      await this.time.run(0.01);
    }
  }

  /** Tokens admitted in excess of the bound, in the worst interval. */
  excess({ rateLimit, burstLimit }: { rateLimit: number; burstLimit: number }): number {
    return excess(this.admissions, rateLimit, burstLimit);
  }
}
