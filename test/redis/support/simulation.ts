// Nodes, a store and the network between them, in virtual time. The nodes are the package's own, of
// either engine; the store is the twin.

import { SharedRateLimiter, type SharedRateLimiterOptions } from '../../../lib/redis/index.js';
import { DEFAULT_DEADLINE_SECONDS } from '../../../lib/redis/limit/options.js';
import { leaseTimes } from '../../../lib/redis/store/limit-scripts.js';
import { type Admission, excess } from '../../../out/examples/fleet/bound.js';
import { ENGINES } from '../../support/limiters.js';
import { type Random, seeded } from '../../support/random.js';
import { Twin } from './twin.js';
import { VirtualTime } from './virtual-time.js';

export interface Scenario {
  seed: number;
  nodes: number;
  seconds: number;
  rateLimit: number;
  burstLimit: number;
  leaseSeconds: number;
  policy: 'share' | 'open' | 'closed';
  /** Checks a second at each node. */
  load: number;
  /** Longest way of a message, in seconds. */
  latency: number;
  /** The share of messages that are lost, or delayed beyond all deadlines. */
  loss: number;
  /** Nodes end without a word and are replaced, so many times. */
  restarts: number;
  /**
   * Times at which the store does not answer for a while: it is out of reach; it has lost everything as well;
   * or it stands still, and answers then whatever it was asked.
   */
  outages: { at: number; seconds: number; kind: 'cut' | 'lost' | 'still' }[];
}

/** How much faster the clock of a node or of the store may run. */
const DRIFT = 0.001;

interface Outcome {
  excess: number;
  admitted: number;
  refused: number;
  calls: number;
  /** Seconds for which nodes took the store for gone: the mean of all. */
  alone: number;
}

class Simulation {
  readonly time = new VirtualTime();
  readonly twin: Twin;
  readonly #random: Random;
  readonly #scenario: Scenario;
  readonly #storeClock: () => number;
  readonly #admissions: Admission[] = [];
  readonly #nodes: SharedRateLimiter[] = [];
  #away: Scenario['outages'][number]['kind'] | undefined;
  #held: (() => void)[] = [];
  /** How many times as often as usual all nodes are asked: storms and calms. */
  #weather = 1;
  #refused = 0;
  #alone = 0;
  #losses = 0;
  calls = 0;

  constructor(scenario: Scenario) {
    this.#scenario = scenario;
    this.#random = seeded(scenario.seed);
    this.time.install();
    this.#storeClock = this.#someClock(1.7e9);
    const times = leaseTimes(scenario.leaseSeconds, DEFAULT_DEADLINE_SECONDS);
    this.twin = new Twin({ ...scenario, ...times, disconnectThreshold: null }, this.#storeClock);
  }

  async run(): Promise<Outcome> {
    const { nodes, seconds, restarts, outages, rateLimit, burstLimit } = this.#scenario;
    for (let i = 0; i < nodes; i += 1) this.#start(i);
    for (let i = 0; i < restarts; i += 1) {
      this.time.after(this.#random() * seconds, () => this.#start(this.#random.below(nodes)));
    }
    for (const outage of outages) this.#plan(outage);
    this.#changeWeather();
    await this.time.run(seconds);
    for (const node of this.#nodes) node.emit('state', { state: 'up', shard: 0 });
    return {
      excess: excess(this.#admissions, rateLimit, burstLimit),
      admitted: this.#admissions.reduce((sum, { cost }) => sum + cost, 0),
      refused: this.#refused,
      calls: this.calls,
      alone: this.#alone / nodes,
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
      clock: this.#someClock(this.#random() * 1e6),
      engine: this.#random.pick(ENGINES),
    };
    const node = new SharedRateLimiter(options);
    this.#nodes[index]?.emit('state', { state: 'up', shard: 0 });
    this.#nodes[index] = node;
    this.#measure(node);
    this.#checkOn(index, node);
  }

  #measure(node: SharedRateLimiter): void {
    let downAt: number | undefined;
    node.on('state', ({ state }) => {
      if (downAt !== undefined) this.#alone += this.time.now - downAt;
      downAt = state === 'down' ? this.time.now : undefined;
    });
  }

  /** A calm lets leases end; what is left of them and of the bucket meets the storm after it. */
  #changeWeather(): void {
    this.#weather = this.#weather === 0 ? 10 : this.#random.pick([0, 0, 1]);
    const seconds = this.#random() * 1.5 * this.#scenario.leaseSeconds;
    this.time.after(this.#weather === 10 ? 0.3 : seconds, () => this.#changeWeather());
  }

  /** Checks by this node until another has taken its place. */
  #checkOn(index: number, node: SharedRateLimiter): void {
    if (this.#nodes[index] !== node) return;
    const often = this.#scenario.load * Math.max(1, this.#weather);
    this.time.after((this.#random() * 2) / often, () => {
      if (this.#weather > 0) this.#check(node);
      if (this.#random() < 0.01) node.removePeer('p');
      this.#checkOn(index, node);
    });
  }

  #check(node: SharedRateLimiter): void {
    const cost = this.#cost();
    const count = (action: string) => {
      if (action === 'allow') this.#admissions.push({ at: this.#storeClock(), cost });
      else this.#refused += 1;
    };
    if (this.#random() < 0.5) count(node.check('p', cost)[0]);
    else void node.checkAsync('p', cost).then(([action]) => count(action));
  }

  /** Mostly one; now and then as much as the burst. */
  #cost(): number {
    const kind = this.#random();
    if (kind < 0.9) return 1;
    return this.#random.below(kind < 0.97 ? 4 : Math.floor(this.#scenario.burstLimit) + 1);
  }

  #plan({ at, seconds, kind }: Scenario['outages'][number]): void {
    this.time.after(at, () => {
      this.#away = kind;
      if (kind === 'lost') this.#losses += 1;
    });
    this.time.after(at + seconds, () => {
      this.#away = undefined;
      if (kind === 'lost') this.twin.restart();
      for (const arrive of this.#held.splice(0)) arrive();
    });
  }

  /** A clock of its own: minutes away from others, and up to a thousandth faster or slower. */
  #someClock(offset: number): () => number {
    const pace = 1 + (this.#random() * 2 - 1) * DRIFT;
    const away = offset + (this.#random() - 0.5) * 600;
    return () => this.time.now * pace + away;
  }

  #client(): object {
    const ask = (method: 'eval' | 'evalSha') => {
      return (source: string, { keys, arguments: args }: { keys: string[]; arguments: string[] }) =>
        this.#travel(() => this.twin[method](source, keys, args));
    };
    const nothing = () => {};
    return {
      eval: ask('eval'),
      evalSha: ask('evalSha'),
      connect: nothing,
      on: nothing,
      off: nothing,
    };
  }

  /** There and back again, if it gets there and back. */
  #travel(act: () => unknown): Promise<unknown> {
    this.calls += 1;
    return new Promise((resolve, reject) => {
      this.#way(reject, () => {
        try {
          const reply = act();
          this.#way(reject, () => resolve(reply));
        } catch (error) {
          this.#way(reject, () => reject(error as Error));
        }
      });
    });
  }

  #way(reject: (error: Error) => void, arrive: () => void): void {
    const { latency, loss } = this.#scenario;
    let seconds = this.#random() * latency;
    const losses = this.#losses;
    if (this.#random() < loss) {
      // Lost, and noticed; or so late that nobody waits.
      if (this.#random() < 0.5) {
        this.time.after(seconds, () => reject(new Error('Socket closed unexpectedly')));
        return;
      }
      seconds = this.#random() * 5;
    }
    this.time.after(seconds, () => {
      // What is on its way when the server ends goes with the connection.
      if (this.#losses !== losses) reject(new Error('Socket closed unexpectedly'));
      else if (this.#away === undefined) arrive();
      else if (this.#away === 'still') this.#held.push(arrive);
      else reject(new Error('Socket closed unexpectedly'));
    });
  }
}

export function simulate(scenario: Scenario): Promise<Outcome> {
  return new Simulation(scenario).run();
}
