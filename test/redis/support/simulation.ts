// A simulation of nodes, a store and the network between them, in virtual time. The nodes are SharedRateLimiters on
// either engine; the store is a SimulatedStore.

import { SharedRateLimiter, type SharedRateLimiterOptions } from '../../../lib/redis/index.js';
import { REPORT } from '../../../lib/redis/store/fleet-scripts.js';
import { leaseLifetimes } from '../../../lib/redis/store/limit.js';
import { DEFAULT_DEADLINE_SECONDS } from '../../../lib/redis/store/options.js';
import { SYNC_VERSION } from '../../../lib/redis/store/version.js';
import { type Admission, excess } from '../../../out/examples/fleet/bound.js';
import { ENGINES } from '../../support/limiters.js';
import { type Random, seeded } from '../../support/random.js';
import { driftingClock, type NetworkOptions, SimulatedNetwork } from './simulated-network.js';
import { SimulatedStore } from './simulated-store.js';
import { VirtualTime } from './virtual-time.js';

export interface Scenario extends NetworkOptions {
  seed: number;
  nodes: number;
  seconds: number;
  rateLimit: number;
  burstLimit: number;
  leaseSeconds: number;
  policy: 'share' | 'open' | 'closed';
  /** Checks per second at each node. */
  load: number;
  /** How often a node ends without closing and is replaced. */
  restarts: number;
}

interface Outcome {
  /** Tokens admitted in excess of the bound, in the worst interval. */
  excess: number;
  admitted: number;
  refused: number;
  calls: number;
  /** Seconds for which the store was down, as a mean over nodes. */
  downSeconds: number;
}

class Simulation {
  readonly time = new VirtualTime();
  readonly store: SimulatedStore;
  readonly #random: Random;
  readonly #scenario: Scenario;
  readonly #storeClock: () => number;
  readonly #admissions: Admission[] = [];
  readonly #nodes: SharedRateLimiter[] = [];
  readonly #network: SimulatedNetwork;
  /** The current load of all nodes, as a multiple of `load`: storms and calms. */
  #loadFactor = 1;
  #refused = 0;
  #downSeconds = 0;

  constructor(scenario: Scenario) {
    this.#scenario = scenario;
    this.#random = seeded(scenario.seed);
    this.time.install();
    this.#storeClock = driftingClock(this.time, this.#random, 1.7e9);
    const times = leaseLifetimes(scenario.leaseSeconds, DEFAULT_DEADLINE_SECONDS);
    this.store = new SimulatedStore(
      { ...scenario, ...times, disconnectThreshold: null },
      this.#storeClock,
    );
    this.#network = new SimulatedNetwork(this.time, this.#random, scenario, this.store);
  }

  async run(): Promise<Outcome> {
    const { nodes, seconds, restarts, rateLimit, burstLimit } = this.#scenario;
    for (let i = 0; i < nodes; i += 1) this.#start(i);
    for (let i = 0; i < restarts; i += 1) {
      this.time.after(this.#random() * seconds, () => this.#start(this.#random.below(nodes)));
    }
    this.#changeLoad();
    await this.time.run(seconds);
    for (const node of this.#nodes) node.emit('state', { state: 'up', shard: 0 });
    return {
      excess: excess(this.#admissions, rateLimit, burstLimit),
      admitted: this.#admissions.reduce((sum, { cost }) => sum + cost, 0),
      refused: this.#refused,
      calls: this.#network.calls,
      downSeconds: this.#downSeconds / nodes,
    };
  }

  #start(index: number): void {
    const { rateLimit, burstLimit, leaseSeconds, policy } = this.#scenario;
    const options: SharedRateLimiterOptions = {
      // The limit does not change here.
      client: this.#network.client([SYNC_VERSION, REPORT]),
      rateLimit,
      burstLimit,
      leaseSeconds,
      onStoreFailure: policy,
      nodes: this.#scenario.nodes,
      clock: driftingClock(this.time, this.#random, this.#random() * 1e6),
      engine: this.#random.pick(ENGINES),
    };
    const node = new SharedRateLimiter(options);
    this.#nodes[index]?.emit('state', { state: 'up', shard: 0 });
    this.#nodes[index] = node;
    this.#watchState(node);
    this.#keepChecking(index, node);
  }

  #watchState(node: SharedRateLimiter): void {
    let downSince: number | undefined;
    node.on('state', ({ state }) => {
      if (downSince !== undefined) this.#downSeconds += this.time.now - downSince;
      downSince = state === 'down' ? this.time.now : undefined;
    });
  }

  /** In a calm leases end. A storm after it spends what is left of them and of the bucket. */
  #changeLoad(): void {
    this.#loadFactor = this.#loadFactor === 0 ? 10 : this.#random.pick([0, 0, 1]);
    const seconds = this.#random() * 1.5 * this.#scenario.leaseSeconds;
    this.time.after(this.#loadFactor === 10 ? 0.3 : seconds, () => this.#changeLoad());
  }

  /** Makes checks by this node until it is replaced. */
  #keepChecking(index: number, node: SharedRateLimiter): void {
    if (this.#nodes[index] !== node) return;
    const rate = this.#scenario.load * Math.max(1, this.#loadFactor);
    this.time.after((this.#random() * 2) / rate, () => {
      if (this.#loadFactor > 0) this.#check(node);
      if (this.#random() < 0.01) node.removePeer('p');
      this.#keepChecking(index, node);
    });
  }

  #check(node: SharedRateLimiter): void {
    const cost = this.#randomCost();
    const count = (action: string) => {
      if (action === 'allow') this.#admissions.push({ at: this.#storeClock(), cost });
      else this.#refused += 1;
    };
    if (this.#random() < 0.5) count(node.check('p', cost)[0]);
    else void node.checkAsync('p', cost).then(([action]) => count(action));
  }

  /** Returns mostly 1, sometimes up to the burst. */
  #randomCost(): number {
    const kind = this.#random();
    if (kind < 0.9) return 1;
    return this.#random.below(kind < 0.97 ? 4 : Math.floor(this.#scenario.burstLimit) + 1);
  }
}

export function simulate(scenario: Scenario): Promise<Outcome> {
  return new Simulation(scenario).run();
}
