// The store as a SharedRuleLimiter uses it: names of keys, calls, and what the failure policy and the store's clock must
// know of the rules. All keys of a limiter have one hash tag, so there is one shard.

import { createStoreClient, type StoreClient } from '../store/client.js';
import { Deadlines } from '../store/deadlines.js';
import type { Limit } from '../store/limit.js';
import { closedError } from '../store/replies.js';
import { CallbackCall } from '../store/script-call.js';
import { Shard } from '../store/shard.js';
import type { StateChange, StoreCounters } from '../store/shard-health.js';
import { nowWithPauses } from '../store/timing.js';
import { type VersionOwner, VersionWatch } from '../store/version-watch.js';
import type { SharedRuleConfig } from './options.js';
import { RuleFleet, type RuleTotalNames } from './rule-fleet.js';
import { part } from './rule-keys.js';
import { createRuleScript, type RuleScriptName } from './rule-scripts.js';

/** The class whose calls these are. */
const OWNER = 'SharedRuleLimiter';

export class RuleStore {
  readonly deadlines: Deadlines;
  readonly watch: VersionWatch;
  readonly fleet: RuleFleet;
  readonly counters: StoreCounters = { calls: 0, beats: 0, failures: 0, downs: 0, inFlight: 0 };
  /** This node's random number, small enough to be exact as a double. */
  readonly nodeId = String(Math.floor(Math.random() * 2 ** 53));
  readonly #config: SharedRuleConfig;
  readonly #client: StoreClient;
  readonly #shard: Shard;
  /** In seconds of refill, since the rules have different rates. */
  readonly #limit: Limit & { burstLimit: number };
  #isClosed = false;

  /** `longestRefill`: the most seconds in which a bucket refills. */
  constructor(
    config: SharedRuleConfig,
    longestRefill: number,
    onState: (change: StateChange) => void,
    rules: VersionOwner,
    ownTotals: () => Record<RuleTotalNames, number>,
  ) {
    this.#config = config;
    const { client, prefix, deadlineSeconds, leaseSeconds, shortLeaseSeconds } = config;
    this.#limit = {
      rateLimit: 1,
      burstLimit: longestRefill,
      disconnectThreshold: null,
      leaseSeconds,
      shortLeaseSeconds,
    };
    this.#client = createStoreClient(client);
    this.deadlines = new Deadlines(deadlineSeconds);
    // The first look at the rules precedes the first heartbeat, and so all checks.
    this.watch = new VersionWatch({
      client: this.#client,
      key: `{${prefix}}:rules#rules`,
      deadlines: this.deadlines,
      className: OWNER,
      isDown: () => this.#shard?.state === 'down',
      owner: rules,
    });
    this.fleet = new RuleFleet(config.scopes, {
      client: this.#client,
      key: `{${prefix}}:rules#fleet`,
      nodeId: this.nodeId,
      deadlines: this.deadlines,
      isDown: () => this.#shard.state === 'down',
      ownTotals,
    });
    const context = {
      // All calls go to one server, so what a cluster needs of a shard does not matter.
      client: this.#client,
      limit: this.#limit,
      nodeId: this.nodeId,
      owner: OWNER,
      bornAt: nowWithPauses(),
      deadlines: this.deadlines,
      deadlineSeconds,
      createScript: (name: string, runId: string) =>
        createRuleScript(name as RuleScriptName, runId),
      givenWhileDown: (seconds: number) => this.#givenWhileDown(seconds),
      onChange: onState,
      counters: this.counters,
    };
    this.#shard = new Shard(context, 0, `{${prefix}}:rules`);
  }

  /** Call this when the rules have changed. */
  setLongestRefill(seconds: number): void {
    this.#limit.burstLimit = Math.max(seconds, this.#limit.burstLimit);
  }

  get state(): 'up' | 'down' {
    return this.#shard.state;
  }

  /** The number of nodes last seen, with this one. */
  get nodes(): number {
    return this.#shard.nodes;
  }

  /** The number of nodes that share the limits while the store is down: `nodes`, or more if more were seen. */
  get maxNodes(): number {
    return Math.max(this.#config.nodes, this.#shard.maxNodes);
  }

  /** Whether a call would fail at once because too many wait. */
  get isFull(): boolean {
    return this.#shard.isFull;
  }

  /** Whether a call has been answered since a time. */
  hasAnsweredSince(time: number): boolean {
    return this.#shard.hasAnsweredSince(time);
  }

  /** What the keys of a rule begin with. */
  bucketPrefix(scope: string, rule: string): string {
    return `{${this.#config.prefix}}:rules:${part(scope)}:${part(rule)}:`;
  }

  /** What the keys of the offenders of a scope begin with. */
  offenderPrefix(scope: string): string {
    return `{${this.#config.prefix}}:bans:${part(scope)}:`;
  }

  /** Calls a script. One of the functions is called, within the deadline. */
  call(
    name: RuleScriptName,
    keys: string[],
    args: readonly string[],
    answered: (reply: string) => void,
    failed: (error: Error) => void,
  ): void {
    // A client may map strings to buffers.
    const read = (reply: unknown) => answered(String(reply));
    this.#shard.call(new CallbackCall(name, keys, args, read, failed));
  }

  /** Calls a script, and resolves with its reply. */
  run(name: RuleScriptName, keys: string[], args: readonly string[]): Promise<string> {
    return new Promise((resolve, reject) => this.call(name, keys, args, resolve, reject));
  }

  async ready(): Promise<void> {
    if (this.#isClosed) throw closedError(OWNER);
    await this.#shard.ready();
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.watch.close();
    await this.fleet.close();
    await this.#shard.close();
    this.deadlines.close();
    this.#client.release();
  }

  /** The most that a bucket may have given without the store in so many seconds, in seconds of its refill. */
  #givenWhileDown(seconds: number): number {
    const { onStoreFailure } = this.#config;
    if (onStoreFailure === 'closed') return 0;
    return onStoreFailure === 'open' ? this.#limit.burstLimit : seconds;
  }
}
