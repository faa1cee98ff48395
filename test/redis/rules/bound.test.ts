// The bound of SharedRuleLimiter, in simulations: whatever the network, the clocks and the nodes do, all nodes together
// admit at most the burst + rate x T of each rule and key in any interval T.

import fc from 'fast-check';
import { afterEach, describe, expect, it, vi } from 'vitest';
import type { SharedRuleLimiter } from '../../../lib/redis/index.js';
import { type Admission, excess } from '../../../out/examples/fleet/bound.js';
import { type Random, seeded } from '../../support/random.js';
import { runs } from '../../support/runs.js';
import { RuleWorld } from '../support/rule-world.js';

afterEach(() => {
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

interface Scenario {
  seed: number;
  mode: 'leased' | 'strict';
  nodes: number;
  seconds: number;
  connection: { rate: number; burst: number };
  address: { rate: number; burst: number };
  server: { rate: number; burst: number };
  leaseSeconds: number;
  /** Checks per second at each node. */
  load: number;
  /** The longest time that a message takes in one direction, in seconds. */
  latency: number;
  /** The share of messages that are lost or delayed beyond all deadlines. */
  loss: number;
  /** How often a node ends without closing and is replaced. */
  restarts: number;
  outages: readonly { at: number; seconds: number; losesData: boolean }[];
}

/** By how much the clock of a node or of the store may run faster or slower. */
const MAX_DRIFT = 0.001;
const CONNECTIONS = 3;
/** The rounding error of sums of epoch seconds. */
const ROUNDING = 1e-3;

interface Outcome {
  /** Tokens admitted in excess of the bound, in the worst interval of the worst bucket. */
  excess: number;
  admitted: number;
  calls: number;
}

class Simulation {
  readonly #scenario: Scenario;
  readonly #random: Random;
  readonly #world: RuleWorld;
  readonly #admissions = new Map<string, Admission[]>();
  readonly #nodes: SharedRuleLimiter[] = [];
  #dataLosses = 0;
  #loadFactor = 1;
  #admitted = 0;

  constructor(scenario: Scenario) {
    this.#scenario = scenario;
    this.#random = seeded(scenario.seed);
    const { mode, leaseSeconds, connection, address, server } = scenario;
    this.#world = new RuleWorld(
      0,
      {
        mode,
        leaseSeconds,
        onStoreFailure: 'closed',
        scopes: { connection: {}, address: {}, server: { single: true } },
        rules: {
          messages: {
            scope: 'connection',
            rateLimit: connection.rate,
            burstLimit: connection.burst,
          },
          events: { scope: 'address', rateLimit: address.rate, burstLimit: address.burst },
          everybody: { scope: 'server', rateLimit: server.rate, burstLimit: server.burst },
        },
      },
      (time) => this.#createClock(time, 1.7e9),
    );
    this.#world.carry = (act, lose) => this.#deliver(act, lose);
  }

  async run(): Promise<Outcome> {
    const { nodes, seconds, restarts, outages, connection, address, server } = this.#scenario;
    const world = this.#world;
    for (let n = 0; n < nodes; n += 1) this.#start(n);
    for (let n = 0; n < restarts; n += 1) {
      world.time.after(this.#random() * seconds, () => this.#start(this.#random.below(nodes)));
    }
    for (const { at, seconds: length, losesData } of outages) {
      world.time.after(at, () => {
        world.isAway = true;
        if (losesData) this.#dataLosses += 1;
      });
      world.time.after(at + length, () => {
        world.isAway = false;
        if (losesData) world.server.restart();
      });
    }
    this.#changeLoad();
    await world.time.run(seconds);
    const limits = { connection, address, server };
    const worst = [...this.#admissions].map(([bucket, admissions]) => {
      const { rate, burst } = limits[bucket.split(' ')[0] as keyof typeof limits];
      return excess(admissions, rate, burst);
    });
    return { excess: Math.max(-1, ...worst), admitted: this.#admitted, calls: world.server.checks };
  }

  #start(index: number): void {
    const clock = this.#createClock(this.#world.time, this.#random() * 1e6);
    const node = this.#world.start({ clock });
    this.#nodes[index] = node;
    this.#keepChecking(index, node);
  }

  /** In a calm leases end. A storm after it spends what is left of them and of the buckets. */
  #changeLoad(): void {
    this.#loadFactor = this.#loadFactor === 0 ? 10 : this.#random.pick([0, 0, 1]);
    const seconds = this.#random() * 1.5 * this.#scenario.leaseSeconds;
    this.#world.time.after(this.#loadFactor === 10 ? 0.3 : seconds, () => this.#changeLoad());
  }

  #keepChecking(index: number, node: SharedRuleLimiter): void {
    if (this.#nodes[index] !== node) return;
    const rate = this.#scenario.load * Math.max(1, this.#loadFactor);
    this.#world.time.after((this.#random() * 2) / rate, () => {
      if (this.#loadFactor > 0) this.#check(node);
      const keys = { connection: `c${this.#random.below(CONNECTIONS)}`, address: 'a' };
      if (this.#random() < 0.01) node.removePeer(keys);
      this.#keepChecking(index, node);
    });
  }

  #check(node: SharedRuleLimiter): void {
    const keys = {
      connection: `c${this.#random.below(CONNECTIONS)}`,
      address: this.#random() < 0.5 ? 'a' : 'b',
    };
    const isStrict = this.#scenario.mode === 'strict';
    const kind = this.#random();
    const cost = kind < 0.9 ? 1 : this.#random.below(kind < 0.97 ? 4 : 20);
    // In mode strict the store decides between these times.
    const from = this.#now();
    const count = (outcome: string) => {
      if (outcome !== 'allow' || cost === 0) return;
      this.#admitted += cost;
      const buckets = [`connection ${keys.connection}`, `address ${keys.address}`, 'server'];
      for (const bucket of buckets) {
        const admissions = this.#admissions.get(bucket) ?? [];
        this.#admissions.set(bucket, admissions);
        admissions.push(isStrict ? { from, at: this.#now(), cost } : { at: this.#now(), cost });
      }
    };
    if (!isStrict && this.#random() < 0.5) {
      count(node.check(keys, cost).outcome);
    } else void node.checkAsync(keys, cost).then(({ outcome }) => count(outcome));
  }

  #now: () => number = () => 0;

  /** Creates a clock that is minutes away from others and runs up to a thousandth faster or slower. */
  #createClock(time: RuleWorld['time'], offset: number): () => number {
    const pace = 1 + (this.#random() * 2 - 1) * MAX_DRIFT;
    const start = offset + (this.#random() - 0.5) * 600;
    const clock = () => time.now * pace + start;
    if (offset === 1.7e9) this.#now = clock;
    return clock;
  }

  #deliver(act: () => void, lose: (error: Error) => void): void {
    const { latency, loss } = this.#scenario;
    const { time } = this.#world;
    const dataLosses = this.#dataLosses;
    let seconds = this.#random() * latency;
    if (this.#random() < loss) {
      // Half of these are lost with an error, half arrive so late that no caller waits.
      if (this.#random() < 0.5) {
        time.after(seconds, () => lose(new Error('Socket closed unexpectedly')));
        return;
      }
      seconds = this.#random() * 5;
    }
    time.after(seconds, () => {
      // A server that ends takes its connections with it, and the messages in them.
      if (this.#dataLosses === dataLosses) act();
      else lose(new Error('Socket closed unexpectedly'));
    });
  }
}

const number = (min: number, max: number) => fc.double({ min, max, noNaN: true });
const anyLimit = fc.record({ rate: number(0.5, 60), burst: number(1, 150) });
const anyScenario: fc.Arbitrary<Scenario> = fc.record({
  seed: fc.nat(),
  mode: fc.constantFrom('leased' as const, 'leased' as const, 'strict' as const),
  nodes: fc.integer({ min: 1, max: 8 }),
  seconds: number(5, 12),
  connection: anyLimit,
  address: anyLimit,
  server: anyLimit,
  leaseSeconds: number(0.2, 8),
  load: number(0.5, 5),
  latency: number(0, 0.06),
  loss: fc.oneof(fc.constant(0), number(0, 0.3)),
  restarts: fc.nat(4),
  outages: fc.constant([]),
});
const anyOutages = fc.array(
  fc.record({ at: number(2, 8), seconds: number(0.01, 4), losesData: fc.boolean() }),
  { minLength: 1, maxLength: 1 },
);

const CALM: Scenario = {
  seed: 1,
  mode: 'leased',
  nodes: 4,
  seconds: 30,
  connection: { rate: 20, burst: 50 },
  address: { rate: 30, burst: 80 },
  server: { rate: 40, burst: 100 },
  leaseSeconds: 5,
  load: 40,
  latency: 0.01,
  loss: 0,
  restarts: 0,
  outages: [],
};

describe('SharedRuleLimiter', () => {
  it.each(['leased', 'strict'] as const)(
    'admits at least half of what the bound allows, under load, in mode %s',
    async (mode) => {
      const outcome = await new Simulation({ ...CALM, mode }).run();
      expect(outcome.excess).toBeLessThanOrEqual(ROUNDING);
      expect(outcome.admitted).toBeGreaterThan(0.5 * (100 + 40 * 30));
    },
  );

  it('keeps the bound of every rule with lost and late messages, replaced nodes and different clocks', async () => {
    await fc.assert(
      fc.asyncProperty(anyScenario, async (scenario) => {
        const outcome = await new Simulation(scenario).run();
        expect(outcome.excess).toBeLessThanOrEqual(ROUNDING);
      }),
      { ...runs(8), endOnFailure: true },
    );
  });

  it('keeps it through an outage, and a loss of all data, with the policy closed', async () => {
    await fc.assert(
      fc.asyncProperty(anyScenario, anyOutages, async (scenario, outages) => {
        const losesData = outages.some((outage) => outage.losesData);
        // A node that starts after a loss of data cannot notice it.
        const restarts = losesData ? 0 : scenario.restarts;
        const outcome = await new Simulation({ ...scenario, restarts, seconds: 15, outages }).run();
        expect(outcome.excess).toBeLessThanOrEqual(ROUNDING);
      }),
      { ...runs(8), endOnFailure: true },
    );
  });
});
