// RuleServer: a simulated server with all that a SharedRuleLimiter uses: rules, bans and heartbeats.

import { createRuleScript, type RuleScriptName } from '../../../lib/redis/rules/rule-scripts.js';
import { leaseLifetimes } from '../../../lib/redis/store/limit.js';
import { CHANGE_VERSION, SYNC_VERSION } from '../../../lib/redis/store/version.js';
import { SimulatedBans } from './simulated-bans.js';
import { SimulatedRules } from './simulated-rules.js';
import { SimulatedStore } from './simulated-store.js';
import { SimulatedVersion } from './simulated-version.js';

export class RuleServer {
  readonly rules: SimulatedRules;
  readonly bans: SimulatedBans;
  /** The text of the rules that are in force. */
  readonly version: SimulatedVersion;
  /** Scripts of rules that have run, and those of them that check. */
  runs = 0;
  checks = 0;
  readonly #heartbeats: SimulatedStore;
  readonly #loaded = new Map<string, RuleScriptName>();
  #run = 0;

  constructor(
    clock: () => number,
    {
      leaseSeconds = 30,
      deadlineSeconds = 0.1,
    }: { leaseSeconds?: number | undefined; deadlineSeconds?: number | undefined },
    publish: (message: string) => void,
  ) {
    const times = leaseLifetimes(leaseSeconds, deadlineSeconds);
    const limit = { rateLimit: 1, burstLimit: 1, disconnectThreshold: null, ...times };
    this.#heartbeats = new SimulatedStore(limit, clock);
    this.rules = new SimulatedRules(clock);
    this.bans = new SimulatedBans(clock, publish);
    this.version = new SimulatedVersion(clock);
  }

  /** Starts again without any data. */
  restart(): void {
    this.#heartbeats.restart();
    this.rules.flush();
    this.version.text = '';
    this.bans.flush();
    this.#loaded.clear();
    this.#run += 1;
  }

  eval(text: string, keys: string[], args: string[]): unknown {
    const name = SimulatedRules.nameOf(text);
    if (name !== undefined) {
      const current = createRuleScript(name, `run${this.#run}`);
      if (text === current.text) this.#loaded.set(current.sha, name);
      return this.#runScript(name, keys, args);
    }
    if (text === SYNC_VERSION) return this.version.sync(args);
    if (text === CHANGE_VERSION) return this.version.change(args);
    if (keys[0]?.endsWith('{bans}')) return this.bans.eval(text, args);
    return this.#heartbeats.eval(text, keys, args);
  }

  /** @throws what a server would reply as an error. */
  evalSha(sha: string, keys: string[], args: string[]): unknown {
    const name = this.#loaded.get(sha);
    if (name === undefined) throw new Error('NOSCRIPT No matching script.');
    return this.#runScript(name, keys, args);
  }

  #runScript(name: RuleScriptName, keys: string[], args: string[]): unknown {
    this.runs += 1;
    if (name === 'check') this.checks += 1;
    return this.rules.run(name, keys, args);
  }
}
