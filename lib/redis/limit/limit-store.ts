// The store as a limiter sees it: where a peer is in it, and what decides while it does not answer.

import { ALLOWED } from '../../rate-limiter.js';
import { type CheckResult, RateLimitAction } from '../../types.js';
import { type StoreClient, storeClient } from '../store/client.js';
import { Deadlines } from '../store/deadlines.js';
import { SHARDS, shardOf, storeKey } from '../store/keys.js';
import type { ScriptName } from '../store/limit-scripts.js';
import { type Call, CallBack, NoAnswer } from '../store/script-call.js';
import { Shard, type StateChange, type StoreCounters } from '../store/shard.js';
import { Shares } from './fallback-buckets.js';
import type { SharedSettings } from './options.js';

/** Seconds after which it is worth asking again. */
export const RETRY_SECONDS = 0.25;

export interface StoreListener {
  onState(change: StateChange): void;
  /** The store refuses one key, or what it replied cannot be understood. */
  onFailure(key: string, error: Error): void;
}

export class Store {
  readonly deadlines: Deadlines;
  readonly counters: StoreCounters = { calls: 0, beats: 0, failures: 0, downs: 0, inFlight: 0 };
  /** Verdicts of the failure policy. */
  fallbacks = 0;
  /** Who this node is, as a number that a double holds. */
  readonly holder = String(Math.floor(Math.random() * 2 ** 53));
  readonly #settings: SharedSettings;
  readonly #client: StoreClient;
  readonly #listener: StoreListener;
  readonly #shards: (Shard | undefined)[] = [];
  /** What is given out for parts of the store that are down, and for keys that are not ours. */
  readonly #shares = new Map<number | 'strays', Shares>();

  constructor(settings: SharedSettings, listener: StoreListener) {
    this.#settings = settings;
    this.#listener = listener;
    this.#client = storeClient(settings.client);
    this.deadlines = new Deadlines(settings.deadlineSeconds);
    // Where there is one part it is needed for certain: better to hear at once what is wrong with it.
    if (!this.#client.isCluster) this.#shard(0);
  }

  /** Makes a call for a peer. It is answered, or fails, within the deadline. */
  call(key: string, call: Call): void {
    this.#shardOf(key).call(call);
  }

  /** The key of a peer. */
  keyOf(key: string): string {
    return storeKey(this.#settings.prefix, shardOf(key), key);
  }

  /** The reply of a script called for a peer. */
  reply(name: ScriptName, key: string, rest: readonly string[]): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.call(key, new CallBack(name, this.keyOf(key), rest, resolve, reject));
    });
  }

  /** Whether the part of the store that has this peer is down. */
  isDown(key: string): boolean {
    return this.#shardOf(key).state === 'down';
  }

  /** The verdict of the failure policy. `error`: what came instead of an answer, if something did. */
  fallback(key: string, cost: number, error?: unknown): CheckResult {
    this.fallbacks += 1;
    const isStray = error !== undefined && !(error instanceof NoAnswer);
    if (isStray) this.#listener.onFailure(key, error as Error);
    if (this.#settings.onStoreFailure === 'open') return ALLOWED;
    if (this.#settings.onStoreFailure === 'closed') return [RateLimitAction.DELAY, RETRY_SECONDS];
    const shard = this.#shardOf(key);
    // Of a store that has not answered once or twice others still get everything.
    if (!isStray && shard.state !== 'down') return [RateLimitAction.DELAY, RETRY_SECONDS];
    const now = performance.now() / 1000;
    const shares = this.#sharesOf(isStray ? 'strays' : this.#numberOf(key), now);
    const delay = shares.take(key, cost, now);
    return delay === 0 ? ALLOWED : [RateLimitAction.DELAY, delay];
  }

  get state(): 'up' | 'down' {
    return this.#all().some(({ state }) => state === 'down') ? 'down' : 'up';
  }

  /** By how many the rate is divided: as many as are expected, or have been seen in any part of the store. */
  #sharers(): number {
    return Math.max(this.#settings.nodes, ...this.#all().map(({ mostNodes }) => mostNodes));
  }

  /** Nodes last seen. */
  get nodes(): number {
    return Math.max(1, ...this.#all().map(({ nodes }) => nodes));
  }

  async ready(): Promise<void> {
    await this.#shard(0).ready();
  }

  async close(): Promise<void> {
    await Promise.all(this.#all().map((shard) => shard.close()));
    this.deadlines.close();
    this.#client.release();
  }

  #numberOf(key: string): number {
    return this.#client.isCluster ? shardOf(key) : 0;
  }

  #shardOf(key: string): Shard {
    return this.#shard(this.#numberOf(key));
  }

  #all(): Shard[] {
    return this.#shards.filter((shard) => shard !== undefined);
  }

  #shard(number: number): Shard {
    const known = this.#shards[number];
    if (known !== undefined) return known;
    const { prefix, deadlineSeconds } = this.#settings;
    const shard = new Shard(
      {
        client: this.#client,
        limit: this.#settings,
        holder: this.holder,
        deadlines: this.deadlines,
        deadlineSeconds,
        givenWhileAway: (seconds) => this.#givenWhileAway(seconds),
        onChange: (change) => this.#changed(change),
        counters: this.counters,
      },
      number,
      `${prefix}:{${number % SHARDS}}`,
    );
    this.#shards[number] = shard;
    return shard;
  }

  #changed(change: StateChange): void {
    this.#shares.delete(change.shard);
    this.#listener.onState(change);
  }

  #sharesOf(id: number | 'strays', now: number): Shares {
    let shares = this.#shares.get(id);
    if (shares === undefined) {
      shares = new Shares(this.#settings, this.#sharers(), this.#settings.maxPeers, now);
      this.#shares.set(id, shares);
    }
    return shares;
  }

  #givenWhileAway(seconds: number): number {
    const { onStoreFailure, rateLimit, burstLimit } = this.#settings;
    if (onStoreFailure === 'closed') return 0;
    return onStoreFailure === 'open' ? burstLimit : rateLimit * seconds;
  }
}
