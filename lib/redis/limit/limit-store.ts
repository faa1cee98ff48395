// The store as a limiter uses it: routes calls for a peer to the peer's shard, and applies the failure policy while
// that shard does not answer.

import { ALLOWED } from '../../common/check-results.js';
import { type CheckResult, RateLimitAction } from '../../common/types.js';
import { createStoreClient, type StoreClient } from '../store/client.js';
import { Deadlines } from '../store/deadlines.js';
import { PeerKeys, SHARDS, shardOf } from '../store/keys.js';
import { createScript, type ScriptName } from '../store/limit-scripts.js';
import { closedError } from '../store/replies.js';
import {
  CallbackCall,
  NoReplyError,
  OverloadError,
  type ScriptCall,
} from '../store/script-call.js';
import { Shard } from '../store/shard.js';
import type { StateChange, StoreCounters } from '../store/shard-health.js';
import { nowSeconds, nowWithPauses, RETRY_SECONDS } from '../store/timing.js';
import { VersionWatch } from '../store/version-watch.js';
import {
  type ChangeableLimit,
  contentOfLimit,
  type LimitChange,
  limitOfContent,
} from './changeable-limit.js';
import { FallbackBuckets } from './fallback-buckets.js';
import { FleetReport } from './fleet-report.js';
import type { SharedLimitConfig } from './options.js';

/** The totals of a report of this process, in their order. */
const TOTALS = ['allow', 'delay', 'disconnect', 'fallback', 'overload'] as const;
export type FleetTotals = Record<(typeof TOTALS)[number], number>;

/** The class whose calls these are. */
const OWNER = 'SharedRateLimiter';

export interface LimitStoreListener {
  onState(change: StateChange): void;
  /** The store refuses the key of one peer, or its reply for that peer is invalid. */
  onFailure(key: string, error: Error): void;
  /** A node has changed the limit from `before` to what it is now. */
  onLimit(before: ChangeableLimit): void;
  /** What this process has done. */
  ownTotals(): FleetTotals;
}

export class LimitStore {
  readonly deadlines: Deadlines;
  readonly fleet: FleetReport<keyof FleetTotals>;
  readonly counters: StoreCounters = { calls: 0, beats: 0, failures: 0, downs: 0, inFlight: 0 };
  /** Verdicts of the failure policy. */
  fallbackVerdicts = 0;
  /** Verdicts that are DELAY because the store has more calls than it answers in time. */
  overloadVerdicts = 0;
  /** This node's random number, small enough to be exact as a double. */
  readonly nodeId = String(Math.floor(Math.random() * 2 ** 53));
  readonly #config: SharedLimitConfig;
  readonly #keys: PeerKeys;
  readonly #client: StoreClient;
  readonly #listener: LimitStoreListener;
  readonly #shards: (Shard | undefined)[] = [];
  readonly #watch: VersionWatch;
  readonly #bornAt = nowWithPauses();
  /** Buckets for each shard that is down, and for peers with a key that the store refuses. */
  readonly #fallbackBuckets = new Map<number | 'refused keys', FallbackBuckets>();
  #isClosed = false;

  constructor(config: SharedLimitConfig, listener: LimitStoreListener) {
    this.#config = config;
    this.#keys = new PeerKeys(config.prefix);
    this.#listener = listener;
    this.#client = createStoreClient(config.client);
    this.deadlines = new Deadlines(config.deadlineSeconds);
    // The first look at the limit precedes the first heartbeat, and so all checks, if there is only one server.
    this.#watch = new VersionWatch({
      client: this.#client,
      key: `${config.prefix}{0}#limit`,
      deadlines: this.deadlines,
      className: OWNER,
      isDown: () => this.#shards[0]?.state === 'down',
      owner: {
        current: () => contentOfLimit(config),
        adopt: (content) => this.#changed(limitOfContent(content)),
        // A text that is no limit: the limit stays as it is, and `update` rejects.
        onFailure: () => {},
      },
    });
    this.fleet = new FleetReport({
      names: TOTALS,
      client: this.#client,
      key: `${config.prefix}{0}#fleet`,
      nodeId: this.nodeId,
      deadlines: this.deadlines,
      owner: OWNER,
      isDown: () => this.#shards[0]?.state === 'down',
      ownTotals: () => listener.ownTotals(),
    });
    // A single server is certainly needed, so its first heartbeat is sent at once and reports what is wrong with it.
    if (!this.#client.isCluster) this.#shard(0);
  }

  /** Makes a call for a peer. It is answered or fails within the deadline. */
  call(key: string, call: ScriptCall): void {
    this.#shardOf(key).call(call);
  }

  /** Changes the limit of all nodes. @throws (rejects with) `ERR_LIMITER_STORE` */
  changeLimit(change: LimitChange): Promise<void> {
    const named = Object.entries(change).filter(([, number]) => number !== undefined);
    return this.#watch.change((current) => {
      return contentOfLimit({ ...limitOfContent(current), ...Object.fromEntries(named) });
    });
  }

  /** The store's key of a peer. */
  keyOf(key: string): string {
    return this.#keys.of(key);
  }

  /** Calls a script for a peer and resolves with its reply. */
  run(name: ScriptName, key: string, args: readonly string[]): Promise<unknown> {
    return this.runForAll(name, [key], args);
  }

  /** Calls a script for peers of one group (see `groupOf`) and resolves with its reply. */
  runForAll(
    name: ScriptName,
    keys: readonly [string, ...string[]],
    args: readonly string[],
  ): Promise<unknown> {
    const stored = keys.map((key) => this.keyOf(key));
    return new Promise((resolve, reject) => {
      this.call(keys[0], new CallbackCall(name, stored, args, resolve, reject));
    });
  }

  /** The number of a peer's group: one script can change all peers of a group. */
  groupOf(key: string): number {
    return shardOf(key);
  }

  /** Whether the shard of a peer is down. */
  isDown(key: string): boolean {
    return this.#shardOf(key).state === 'down';
  }

  /** Whether a call for a peer would fail at once because too many wait. */
  isFull(key: string): boolean {
    return this.#shardOf(key).isFull;
  }

  /**
   * The verdict for a check that was made at `startedAt` and has no reply within its deadline. `wasBlocked`: see `Pending`.
   */
  lateVerdict(key: string, cost: number, startedAt: number, wasBlocked: boolean): CheckResult {
    const shard = this.#shardOf(key);
    const isOverload = wasBlocked || shard.hasAnsweredSince(startedAt);
    return isOverload && shard.state === 'up'
      ? this.overloadVerdict()
      : this.fallbackVerdict(key, cost);
  }

  /** The verdict where the store answers, but has more calls than it answers in time. */
  overloadVerdict(): CheckResult {
    this.overloadVerdicts += 1;
    return [RateLimitAction.DELAY, RETRY_SECONDS];
  }

  /** The verdict of the failure policy. `error`: why the call for this check failed, if there was one. */
  fallbackVerdict(key: string, cost: number, error?: unknown): CheckResult {
    if (error instanceof OverloadError) return this.overloadVerdict();
    this.fallbackVerdicts += 1;
    const isRefusedKey = error !== undefined && !(error instanceof NoReplyError);
    if (isRefusedKey) this.#listener.onFailure(key, error as Error);
    if (this.#config.onStoreFailure === 'open') return ALLOWED;
    if (this.#config.onStoreFailure === 'closed') return [RateLimitAction.DELAY, RETRY_SECONDS];
    const shard = this.#shardOf(key);
    // After one or two failures other nodes still get the whole rate from the store, so this node must not add to it.
    if (!isRefusedKey && shard.state !== 'down') return [RateLimitAction.DELAY, RETRY_SECONDS];
    const now = nowSeconds();
    const buckets = this.#bucketsOf(isRefusedKey ? 'refused keys' : this.#numberOf(key), now);
    const delay = buckets.take(key, cost, now);
    return delay === 0 ? ALLOWED : [RateLimitAction.DELAY, delay];
  }

  /** `down` while any shard is down. */
  get state(): 'up' | 'down' {
    return this.#openShards().some(({ state }) => state === 'down') ? 'down' : 'up';
  }

  /** The number of nodes last seen. */
  get nodes(): number {
    return Math.max(1, ...this.#openShards().map(({ nodes }) => nodes));
  }

  async ready(): Promise<void> {
    // A closed cluster may have no shard 0 yet, and a new one would send heartbeats.
    if (this.#isClosed) throw closedError(OWNER);
    await this.#shard(0).ready();
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#watch.close();
    await this.fleet.close();
    await Promise.all(this.#openShards().map((shard) => shard.close()));
    this.deadlines.close();
    this.#client.release();
  }

  #numberOf(key: string): number {
    return this.#client.isCluster ? shardOf(key) : 0;
  }

  #shardOf(key: string): Shard {
    return this.#shard(this.#numberOf(key));
  }

  #openShards(): Shard[] {
    return this.#shards.filter((shard) => shard !== undefined);
  }

  #shard(number: number): Shard {
    const known = this.#shards[number];
    if (known !== undefined) return known;
    const { prefix, deadlineSeconds } = this.#config;
    const shard = new Shard(
      {
        client: this.#client,
        limit: this.#config,
        nodeId: this.nodeId,
        owner: OWNER,
        bornAt: this.#bornAt,
        deadlines: this.deadlines,
        deadlineSeconds,
        createScript: (name, runId) => createScript(name as ScriptName, this.#config, runId),
        givenWhileDown: (seconds) => this.#givenWhileDown(seconds),
        onChange: (change) => this.#onChange(change),
        counters: this.counters,
      },
      number,
      `${prefix}{${number % SHARDS}}`,
    );
    this.#shards[number] = shard;
    return shard;
  }

  #changed(limit: ChangeableLimit): void {
    const { rateLimit, burstLimit, disconnectThreshold } = this.#config;
    Object.assign(this.#config, limit);
    for (const shard of this.#openShards()) shard.forgetScripts();
    this.#fallbackBuckets.clear();
    this.#listener.onLimit({ rateLimit, burstLimit, disconnectThreshold });
  }

  #onChange(change: StateChange): void {
    this.#fallbackBuckets.delete(change.shard);
    this.#listener.onState(change);
  }

  #bucketsOf(id: number | 'refused keys', now: number): FallbackBuckets {
    let buckets = this.#fallbackBuckets.get(id);
    if (buckets === undefined) {
      buckets = new FallbackBuckets(this.#config, this.#maxNodes(), this.#config.maxPeers, now);
      this.#fallbackBuckets.set(id, buckets);
    }
    return buckets;
  }

  /** The number of nodes that share the rate: `nodes`, or more if any shard has recently seen more. */
  #maxNodes(): number {
    return Math.max(this.#config.nodes, ...this.#openShards().map(({ maxNodes }) => maxNodes));
  }

  /** The most tokens that all nodes together may give a peer without the store in so many seconds. */
  #givenWhileDown(seconds: number): number {
    const { onStoreFailure, rateLimit, burstLimit } = this.#config;
    if (onStoreFailure === 'closed') return 0;
    return onStoreFailure === 'open' ? burstLimit : rateLimit * seconds;
  }
}
