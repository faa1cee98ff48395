// A simulation of nodes, a store and the network between them, in virtual time. The nodes are SharedRateLimiters on
// either engine; the store is a SimulatedStore.

import { SharedRateLimiter, type SharedRateLimiterOptions } from '../../../lib/redis/index.js';
import { REPORT } from '../../../lib/redis/store/fleet-scripts.js';
import { leaseLifetimes } from '../../../lib/redis/store/limit.js';
import { SYNC_LIMIT } from '../../../lib/redis/store/limit-version.js';
import { DEFAULT_DEADLINE_SECONDS } from '../../../lib/redis/store/options.js';
import { type Admission, excess } from '../../../out/examples/fleet/bound.js';
import { ENGINES } from '../../support/limiters.js';
import { type Random, seeded } from '../../support/random.js';
import { SimulatedStore } from './simulated-store.js';
import { VirtualTime } from './virtual-time.js';

export interface Scenario {
  seed: number;
  nodes: number;
  seconds: number;
  rateLimit: number;
  burstLimit: number;
  leaseSeconds: number;
  policy: 'share' | 'open' | 'closed';
  /** Checks per second at each node. */
  load: number;
  /** The longest time that a message takes in one direction, in seconds. */
  latency: number;
  /** The share of messages that are lost or delayed beyond all deadlines. */
  loss: number;
  /** How often a node ends without closing and is replaced. */
  restarts: number;
  /**
   * Outages of the store. `cut`: it is unreachable. `data loss`: it is unreachable and loses its data. `pause`: it
   * stops and then answers all calls that it got in the meantime.
   */
  outages: { at: number; seconds: number; kind: 'cut' | 'data loss' | 'pause' }[];
}

/** By how much the clock of a node or of the store may run faster or slower. */
const MAX_DRIFT = 0.001;

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
  #outage: Scenario['outages'][number]['kind'] | undefined;
  #held: (() => void)[] = [];
  /** The current load of all nodes, as a multiple of `load`: storms and calms. */
  #loadFactor = 1;
  #refused = 0;
  #downSeconds = 0;
  #dataLosses = 0;
  calls = 0;

  constructor(scenario: Scenario) {
    this.#scenario = scenario;
    this.#random = seeded(scenario.seed);
    this.time.install();
    this.#storeClock = this.#createClock(1.7e9);
    const times = leaseLifetimes(scenario.leaseSeconds, DEFAULT_DEADLINE_SECONDS);
    this.store = new SimulatedStore(
      { ...scenario, ...times, disconnectThreshold: null },
      this.#storeClock,
    );
  }

  async run(): Promise<Outcome> {
    const { nodes, seconds, restarts, outages, rateLimit, burstLimit } = this.#scenario;
    for (let i = 0; i < nodes; i += 1) this.#start(i);
    for (let i = 0; i < restarts; i += 1) {
      this.time.after(this.#random() * seconds, () => this.#start(this.#random.below(nodes)));
    }
    for (const outage of outages) this.#scheduleOutage(outage);
    this.#changeLoad();
    await this.time.run(seconds);
    for (const node of this.#nodes) node.emit('state', { state: 'up', shard: 0 });
    return {
      excess: excess(this.#admissions, rateLimit, burstLimit),
      admitted: this.#admissions.reduce((sum, { cost }) => sum + cost, 0),
      refused: this.#refused,
      calls: this.calls,
      downSeconds: this.#downSeconds / nodes,
    };
  }

  #start(index: number): void {
    const { rateLimit, burstLimit, leaseSeconds, policy } = this.#scenario;
    const options: SharedRateLimiterOptions = {
      client: this.#client(),
      rateLimit,
      burstLimit,
      leaseSeconds,
      onStoreFailure: policy,
      nodes: this.#scenario.nodes,
      clock: this.#createClock(this.#random() * 1e6),
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

  #scheduleOutage({ at, seconds, kind }: Scenario['outages'][number]): void {
    this.time.after(at, () => {
      this.#outage = kind;
      if (kind === 'data loss') this.#dataLosses += 1;
    });
    this.time.after(at + seconds, () => {
      this.#outage = undefined;
      if (kind === 'data loss') this.store.restart();
      for (const arrive of this.#held.splice(0)) arrive();
    });
  }

  /** Creates a clock that is minutes away from others and runs up to a thousandth faster or slower. */
  #createClock(offset: number): () => number {
    const pace = 1 + (this.#random() * 2 - 1) * MAX_DRIFT;
    const start = offset + (this.#random() - 0.5) * 600;
    return () => this.time.now * pace + start;
  }

  #client(): object {
    const call = (method: 'eval' | 'evalSha') => {
      return (
        source: string,
        { keys, arguments: args }: { keys: string[]; arguments: string[] },
      ) => {
        // The limit does not change here.
        if (source === SYNC_LIMIT || source === REPORT) return Promise.resolve('');
        return this.#roundTrip(() => this.store[method](source, keys, args));
      };
    };
    const nothing = () => {};
    return {
      eval: call('eval'),
      evalSha: call('evalSha'),
      connect: nothing,
      on: nothing,
      off: nothing,
    };
  }

  /** Sends a call and its reply. Either may be lost. */
  #roundTrip(act: () => unknown): Promise<unknown> {
    this.calls += 1;
    return new Promise((resolve, reject) => {
      this.#deliver(reject, () => {
        try {
          const reply = act();
          this.#deliver(reject, () => resolve(reply));
        } catch (error) {
          this.#deliver(reject, () => reject(error as Error));
        }
      });
    });
  }

  #deliver(reject: (error: Error) => void, arrive: () => void): void {
    const { latency, loss } = this.#scenario;
    let seconds = this.#random() * latency;
    const dataLosses = this.#dataLosses;
    if (this.#random() < loss) {
      // Half of these are lost with an error, half arrive so late that no caller waits.
      if (this.#random() < 0.5) {
        this.time.after(seconds, () => reject(new Error('Socket closed unexpectedly')));
        return;
      }
      seconds = this.#random() * 5;
    }
    this.time.after(seconds, () => {
      // A server that ends takes its connections with it, and the messages in them.
      if (this.#dataLosses !== dataLosses) reject(new Error('Socket closed unexpectedly'));
      else if (this.#outage === undefined) arrive();
      else if (this.#outage === 'pause') this.#held.push(arrive);
      else reject(new Error('Socket closed unexpectedly'));
    });
  }
}

export function simulate(scenario: Scenario): Promise<Outcome> {
  return new Simulation(scenario).run();
}
