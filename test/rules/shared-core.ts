// A RulesCore with a shared table, for tests of what every core must do. It is two limiters of one file, which take turns:
// each call finds what the other limiter has done, and rules that the other one has changed.

import { loadNative } from '../../dist/engine/native.js';
import {
  RULE_OUTDATED,
  type RulePlan,
  type RulesConfig,
  type RulesCore,
  type SharedRulesCore,
} from '../../dist/engine/rules.js';

type SharedCore = RulesCore & SharedRulesCore;

/** Large enough for the suites, unless they ask for less. */
const MOST_PEERS = 10_000;

let files = 0;

/** Creates the core with a file of its own, which is removed at once: the limiters keep it. */
export function createSharedCore(config: RulesConfig): RulesCore {
  const binary = loadNative();
  if (binary.state !== 'loaded') throw new Error(binary.reason);
  const { engine } = binary;
  const { sharedFiles } = engine;
  if (sharedFiles === undefined) throw new Error('the native engine has shared tables');
  files += 1;
  const path = sharedFiles.pathOf(`test-rules-${process.pid}-${files}`);
  const pair = new Pair(config.plan);
  const maxPeers = Math.min(config.maxPeers, MOST_PEERS);
  const join = () => {
    const adopt = () => pair.adopt();
    const shared = { path, scopes: '', text: '', adopt };
    const core = engine.rules({ ...config, maxPeers, shared }) as SharedCore;
    pair.add(core);
  };
  join();
  join();
  sharedFiles.remove(path);
  return pair.core;
}

/** The number of rules that records of a core have room for, for each scope; undefined if any number has. */
export function roomsOf(core: RulesCore): readonly number[] | undefined {
  return (core as Partial<SharedRulesCore>).readConfig?.('').rooms;
}

/** The calls whose third argument is a program, which belongs to rules. */
const BY_PROGRAM: readonly (keyof RulesCore)[] = [
  ...(['check', 'checkPeer', 'peek', 'look', 'refund', 'charge'] as const),
];

/** A cleanup in steps is of one limiter. */
const IN_STEPS: readonly (keyof RulesCore)[] = ['cleanup', 'isCleaning'];

interface Limiter {
  readonly core: SharedCore;
  /** The rules that it has adopted. */
  plan: RulePlan;
}

class Pair {
  readonly core: RulesCore;
  readonly #limiters: Limiter[] = [];
  /** The rules of the file. */
  #plan: RulePlan;
  #turn = 0;

  constructor(plan: RulePlan) {
    this.#plan = plan;
    this.core = new Proxy({} as RulesCore, {
      get: (_, name: keyof RulesCore) => {
        const value = this.#limiter.core[name];
        return typeof value === 'function' || value === undefined
          ? (...given: unknown[]) => this.#call(name, given)
          : value;
      },
    });
  }

  add(core: SharedCore): void {
    this.#limiters.push({ core, plan: this.#plan });
    this.#turn = this.#limiters.length - 1;
    this.adopt();
  }

  /** The limiter whose turn it is adopts the rules of the file. */
  adopt(): void {
    const limiter = this.#limiter;
    limiter.core.readConfig('');
    if (!limiter.core.adoptPlan(this.#plan)) throw new Error('the rules belong to the file');
    limiter.plan = this.#plan;
  }

  get #limiter(): Limiter {
    return this.#limiters[this.#turn] as Limiter;
  }

  #call(method: keyof RulesCore, given: unknown[]): unknown {
    this.#turn = IN_STEPS.includes(method) ? 0 : 1 - this.#turn;
    const { core, plan } = this.#limiter;
    if (method === 'update') return this.#update(...(given as [RulePlan, number?]));
    const isByProgram = BY_PROGRAM.includes(method);
    if (isByProgram && (given[2] as number) >= plan.plans * plan.actions) this.adopt();
    const call = core[method] as (...given: unknown[]) => unknown;
    for (;;) {
      const result = call.apply(core, given);
      if (!core.takeOutdated() && !(isByProgram && result === RULE_OUTDATED)) return result;
      this.adopt();
    }
  }

  #update(plan: RulePlan, now?: number): void {
    const { core } = this.#limiter;
    if (!core.isCurrent()) this.adopt();
    if (!core.publish(plan, '', now)) throw new Error('nobody else updates the rules');
    this.#plan = plan;
    this.#limiter.plan = plan;
  }
}
