// Nodes of one limit and their store, in virtual time: the package's own nodes and the store's twin.

import { expect } from 'vitest';
import type { EngineName } from '../../../lib/index.js';
import { SharedRateLimiter } from '../../../lib/redis/index.js';
import { leaseTimes } from '../../../lib/redis/store/limit-scripts.js';
import { type Admission, excess } from '../../../out/examples/fleet/bound.js';
import { Twin } from './twin.js';
import { VirtualTime } from './virtual-time.js';

/** From the sources, as the twin is: a class of the built package is another. */
export type WorldNode = SharedRateLimiter;

/** What doubles lose in sums of epoch seconds. */
export const ROUNDING = 1e-3;

export interface WorldOptions {
  /** Default: whichever can run. */
  engine?: EngineName;
  rateLimit: number;
  burstLimit: number;
  leaseSeconds?: number;
  disconnectThreshold?: number;
  deadlineSeconds?: number;
  onStoreFailure?: 'share' | 'open' | 'closed';
  mode?: 'leased' | 'strict';
  nodes?: number;
}

/** Nodes of one limit at a store that answers at once, unless it is away or the reply is lost. */
export class World {
  readonly time = new VirtualTime();
  readonly twin: Twin;
  readonly nodes: SharedRateLimiter[];
  readonly admissions: Admission[] = [];
  isAway = false;
  /** Nodes that have lost their network: for them alone the store is away. */
  readonly cutOff = new Set<SharedRateLimiter | undefined>();
  /** Calls are neither answered nor refused. */
  isSilent = false;
  losesReplies = false;
  /** Of a call to the store and back. */
  tripSeconds = 0;
  clockReads = 0;
  #held: (() => void)[] = [];
  readonly #options: WorldOptions;

  constructor(nodes: number, options: WorldOptions) {
    this.time.install();
    this.#options = { leaseSeconds: 20, ...options };
    const { leaseSeconds = 20, deadlineSeconds = 0.1 } = options;
    const times = leaseTimes(leaseSeconds, deadlineSeconds);
    const limit = { disconnectThreshold: null, ...options, ...times };
    this.twin = new Twin(limit, () => this.time.now);
    this.nodes = Array.from({ length: nodes }, () => this.start());
  }

  start(): SharedRateLimiter {
    // Undefined while it is made.
    let node: SharedRateLimiter | undefined;
    const ask = (method: 'eval' | 'evalSha') => {
      return async (text: string, call: { keys: string[]; arguments: string[] }) => {
        if (this.isSilent) await new Promise<void>((go) => this.#held.push(go));
        if (this.isAway || this.cutOff.has(node)) throw new Error('Socket closed unexpectedly');
        await this.#halfATrip();
        const reply = this.twin[method](text, call.keys, call.arguments);
        await this.#halfATrip();
        if (this.losesReplies && !text.includes('INFO')) throw new Error('Socket closed');
        return reply;
      };
    };
    const nothing = () => {};
    const client = { on: nothing, off: nothing, connect: nothing };
    node = new SharedRateLimiter({
      client: { ...client, eval: ask('eval'), evalSha: ask('evalSha') },
      clock: () => {
        this.clockReads += 1;
        return this.time.now;
      },
      ...this.#options,
    });
    return node;
  }

  /** What was held goes on. */
  speak(): void {
    this.isSilent = false;
    for (const go of this.#held.splice(0)) go();
  }

  async #halfATrip(): Promise<void> {
    const { tripSeconds } = this;
    if (tripSeconds > 0) await new Promise<void>((go) => this.time.after(tripSeconds / 2, go));
  }

  /** One check; whether it is admitted. `isNow`: by `check`. */
  async check(node: SharedRateLimiter, cost = 1, isNow = false): Promise<boolean> {
    const verdict = isNow ? node.check('p', cost) : node.checkAsync('p', cost);
    await this.time.run(0.0001);
    const [action] = await verdict;
    if (action === 'allow') this.admissions.push({ at: this.time.now, cost });
    return action === 'allow';
  }

  /** Until the first refusal. */
  async spendAll(node: SharedRateLimiter): Promise<void> {
    while (await this.check(node)) {}
  }

  /** As much of its lease as can be spent without a word to the store. */
  async spendLease(node: SharedRateLimiter): Promise<void> {
    const { leasedTokens, store } = node.getStats();
    for (let n = 1; n < leasedTokens * 0.74; n += 1) await this.check(node, 1, true);
    expect(node.getStats().store.calls).toBe(store.calls);
  }

  leased(): number {
    return this.nodes.reduce((sum, node) => sum + node.getStats().leasedTokens, 0);
  }

  /** What the store takes for leased. */
  stored(): number {
    const leases = [...this.twin.buckets.values()].flatMap((bucket) => bucket.leases);
    return leases.reduce((sum, { amount }) => sum + amount, 0);
  }

  /** The store is away for a moment, and has lost everything. All nodes notice at once. */
  async lose(): Promise<void> {
    this.isAway = true;
    for (const node of this.nodes) {
      while (node.getStats().store.state === 'up') {
        node.check('somebody else');
        await this.time.run(0.001);
      }
    }
    this.twin.restart();
    this.isAway = false;
  }

  async areUp(): Promise<void> {
    while (this.nodes.some((node) => node.getStats().store.state === 'down')) {
      await this.time.run(0.01);
    }
  }

  over({ rateLimit, burstLimit }: { rateLimit: number; burstLimit: number }): number {
    return excess(this.admissions, rateLimit, burstLimit);
  }
}
