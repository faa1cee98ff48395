// RuleWorld: nodes of a SharedRuleLimiter and a simulated store, in virtual time. Each node has a client of its own; what
// one publishes about bans reaches all others.

import { SharedRuleLimiter, type SharedRuleLimiterOptions } from '../../../lib/redis/index.js';
import { createRuleScript, type RuleScriptName } from '../../../lib/redis/rules/rule-scripts.js';
import { leaseLifetimes } from '../../../lib/redis/store/limit.js';
import type { RuleVerdict } from '../../../lib/rules/types.js';
import { SimulatedBans } from './simulated-bans.js';
import { SimulatedRules } from './simulated-rules.js';
import { SimulatedStore } from './simulated-store.js';
import { VirtualTime } from './virtual-time.js';

export type RuleOptions = Omit<SharedRuleLimiterOptions, 'client'>;

/** Seconds that an answer takes at most in this world, unless a test delays it. */
const SOON = 0.0005;

/** The store answers at once, unless a field says otherwise. */
export class RuleWorld {
  readonly time = new VirtualTime();
  readonly rules: SimulatedRules;
  readonly bans: SimulatedBans;
  readonly nodes: SharedRuleLimiter[];
  /** Whether the store refuses all calls. */
  isAway = false;
  /** Whether calls are held: neither answered nor refused. */
  isSilent = false;
  /** Whether replies of scripts of rules are lost after the script has run. */
  losesReplies = false;
  /** Calls of the script `check` so far. */
  checks = 0;
  /** Carries a call or a reply of a node, and may lose or delay it. Default: at once. */
  carry: ((act: () => void, lose: (error: Error) => void) => void) | undefined;
  readonly #heartbeats: SimulatedStore;
  readonly #storeClock: () => number;
  readonly #options: RuleOptions;
  readonly #loaded = new Map<string, RuleScriptName>();
  readonly #subscribers = new Set<(message: string) => void>();
  #run = 0;
  #held: (() => void)[] = [];

  constructor(
    nodes: number,
    options: RuleOptions,
    storeClock?: (time: VirtualTime) => () => number,
  ) {
    this.time.install();
    this.#options = options;
    this.#storeClock = storeClock?.(this.time) ?? (() => this.time.now);
    const { leaseSeconds = 30, deadlineSeconds = 0.1 } = options;
    const times = leaseLifetimes(leaseSeconds, deadlineSeconds);
    const limit = { rateLimit: 1, burstLimit: 1, disconnectThreshold: null, ...times };
    this.#heartbeats = new SimulatedStore(limit, this.#storeClock);
    this.rules = new SimulatedRules(this.#storeClock);
    this.bans = new SimulatedBans(this.#storeClock, (message) => {
      for (const receive of this.#subscribers)
        this.#carry(
          () => receive(message),
          () => {},
        );
    });
    this.nodes = Array.from({ length: nodes }, () => this.start());
  }

  /** Starts one more node. */
  start(options: Partial<RuleOptions> = {}): SharedRuleLimiter {
    const nothing = () => {};
    const call = (act: (text: string, keys: string[], args: string[]) => unknown) => {
      return (text: string, { keys, arguments: args }: { keys: string[]; arguments: string[] }) =>
        this.#roundTrip(() => act(text, keys, args));
    };
    const subscriber = {
      ...{ on: nothing, off: nothing, connect: async () => {}, eval: nothing, evalSha: nothing },
      subscribe: async (_: string, receive: (message: string) => void) => {
        this.#subscribers.add(receive);
      },
      destroy: nothing,
    };
    const client = {
      ...{ on: nothing, off: nothing, connect: nothing, duplicate: () => subscriber },
      eval: call((text, keys, args) => this.#eval(text, keys, args)),
      evalSha: call((sha, keys, args) => this.#evalSha(sha, keys, args)),
    };
    // The native engine belongs to the built package, whose classes are other ones.
    return new SharedRuleLimiter({
      engine: 'js',
      client,
      clock: () => this.time.now,
      ...this.#options,
      ...options,
    });
  }

  /** Lets what is in flight arrive. */
  async settle(): Promise<void> {
    for (let n = 0; n < 8; n += 1) await this.time.run(SOON / 8);
  }

  /** Makes a check, and returns its verdict when it is there. */
  async check(
    node: SharedRuleLimiter,
    ...check: Parameters<SharedRuleLimiter['checkAsync']>
  ): Promise<RuleVerdict> {
    let verdict: RuleVerdict | undefined;
    let error: unknown;
    node.checkAsync(...check).then(
      (value) => {
        verdict = value;
      },
      (reason) => {
        error = reason;
      },
    );
    for (let n = 0; n < 10_000 && verdict === undefined && error === undefined; n += 1) {
      await this.time.run(SOON / 8);
    }
    if (verdict === undefined) throw error ?? new Error('no verdict');
    return verdict;
  }

  /** Ends a silence: held calls go on. */
  endSilence(): void {
    this.isSilent = false;
    for (const resume of this.#held.splice(0)) resume();
  }

  /** Starts the store again without any data. */
  restart(): void {
    this.#heartbeats.restart();
    this.rules.flush();
    this.bans.flush();
    this.#loaded.clear();
    this.#run += 1;
  }

  #carry(act: () => void, lose: (error: Error) => void): void {
    if (this.carry === undefined) act();
    else this.carry(act, lose);
  }

  async #roundTrip(act: () => unknown): Promise<unknown> {
    if (this.isSilent) await new Promise<void>((resume) => this.#held.push(resume));
    return new Promise((resolve, reject) => {
      this.#carry(() => {
        if (this.isAway) {
          reject(new Error('Socket closed unexpectedly'));
          return;
        }
        try {
          const reply = act();
          this.#carry(() => resolve(reply), reject);
        } catch (error) {
          this.#carry(() => reject(error as Error), reject);
        }
      }, reject);
    });
  }

  #eval(text: string, keys: string[], args: string[]): unknown {
    const name = SimulatedRules.nameOf(text);
    if (name !== undefined) {
      const { sha } = createRuleScript(name, `run${this.#run}`);
      if (text === createRuleScript(name, `run${this.#run}`).text) this.#loaded.set(sha, name);
      return this.#runScript(name, keys, args);
    }
    if (keys[0]?.endsWith('{bans}')) return this.bans.eval(text, args);
    return this.#heartbeats.eval(text, keys, args);
  }

  #evalSha(sha: string, keys: string[], args: string[]): unknown {
    const name = this.#loaded.get(sha);
    if (name === undefined) throw new Error('NOSCRIPT No matching script.');
    return this.#runScript(name, keys, args);
  }

  #runScript(name: RuleScriptName, keys: string[], args: string[]): unknown {
    if (name === 'check') this.checks += 1;
    const reply = this.rules.run(name, keys, args);
    if (this.losesReplies) throw new Error('Socket closed');
    return reply;
  }
}
