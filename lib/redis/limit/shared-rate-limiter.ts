// SharedRateLimiter: RateLimiter's verdicts for one limit that many processes share.

import { EventEmitter } from 'node:events';
import { readOptionalClock } from '../../clock.js';
import { selectEngine } from '../../engine/select.js';
import { limiterError } from '../../errors.js';
import { requireCost, requireKey } from '../../options.js';
import { ALLOWED, DISCONNECTED, RateLimiter } from '../../rate-limiter.js';
import { safely } from '../../surface.js';
import { type CheckResult, RateLimitAction } from '../../types.js';
import { idOf } from '../store/keys.js';
import { strangeReply } from '../store/replies.js';
import { Call } from '../store/script-call.js';
import type { StateChange } from '../store/shard.js';
import { Leased } from './lease-manager.js';
import { Leases } from './lease-records.js';
import { Store } from './limit-store.js';
import {
  type FailurePolicy,
  readSharedOptions,
  type SharedMode,
  type SharedRateLimiterOptions,
  type SharedSettings,
} from './options.js';

/** What a listener throws surfaces as an uncaught exception; it changes no verdict. */
export interface SharedRateLimiterEvents {
  /** The store, or a part of a cluster, does not answer any more, or does again. */
  state: [change: StateChange];
  /**
   * The store refuses the key of one peer: something else lies there. A name of more than 128 units is given
   * as its digest.
   */
  failure: [failure: { readonly key: string; readonly error: Error }];
}

export interface SharedStats {
  /** Peers kept in this process. */
  trackedPeers: number;
  /** Verdicts given by this process so far. */
  verdicts: { allow: number; delay: number; disconnect: number };
  /** Of the verdicts, those of the failure policy. */
  fallbackVerdicts: number;
  /** Tokens that this process holds and has not spent. */
  leasedTokens: number;
  /** Peers given up to make room; what they had left went back to the store. */
  evictions: number;
  store: {
    /** `down` while a part of it does not answer; `none` in mode `local`. */
    state: 'up' | 'down' | 'none';
    /** Processes last seen that share the limit, this one included. */
    nodes: number;
    /** Scripts called for peers, and as signs of life. */
    calls: number;
    beats: number;
    /** Calls without an answer in time, or with an error. */
    failures: number;
    /** How often it, or a part of it, went down. */
    downs: number;
    /** Calls not answered yet. */
    inFlight: number;
  };
}

const NO_CALLS = { calls: 0, beats: 0, failures: 0, downs: 0, inFlight: 0 } as const;

/**
 * A token bucket for each peer that any number of processes share, through Redis or Valkey.
 *
 * In modes `leased` and `strict` all of them together admit at most `burstLimit` + `rateLimit` x T of a
 * peer in any interval T, as long as each of them has the same options. docs/distributed.md says why, and
 * what it costs. No verdict takes longer than `deadlineSeconds`; nothing rejects because the store is away.
 */
export class SharedRateLimiter extends EventEmitter<SharedRateLimiterEvents> {
  readonly mode: SharedMode;
  readonly rateLimit: number;
  readonly burstLimit: number;
  readonly disconnectThreshold: number | null;
  readonly onStoreFailure: FailurePolicy;
  readonly #settings: SharedSettings;
  readonly #local: RateLimiter | undefined;
  readonly #store: Store | undefined;
  readonly #leased: Leased | undefined;
  readonly #verdicts = { allow: 0, delay: 0, disconnect: 0 };

  /**
   * @throws `ERR_LIMITER_OPTION` for a wrong option, or a client that is none; `ERR_LIMITER_ENGINE` where the
   * engine asked for cannot run, but in mode `strict`, which needs none.
   */
  constructor(options: SharedRateLimiterOptions) {
    super();
    const settings = readSharedOptions(options);
    const { mode, rateLimit, burstLimit, disconnectThreshold, onStoreFailure } = settings;
    this.#settings = settings;
    this.mode = mode;
    this.rateLimit = rateLimit;
    this.burstLimit = burstLimit;
    this.disconnectThreshold = disconnectThreshold;
    this.onStoreFailure = onStoreFailure;
    if (mode === 'local') {
      const { maxPeers, clock, engine } = settings;
      const limit = { rateLimit, burstLimit, disconnectThreshold };
      this.#local = new RateLimiter({ ...limit, maxPeers, clock, engine });
      return;
    }
    // First, since it may fail: a store is asked from the moment it is there.
    const leases =
      mode === 'leased' ? new Leases(selectEngine(settings.engine).leaseTable()) : undefined;
    this.#store = new Store(settings, {
      onState: (change) => safely(() => this.emit('state', change)),
      onFailure: (key, error) => safely(() => this.emit('failure', { key, error })),
    });
    if (leases !== undefined) this.#leased = new Leased(settings, this.#store, leases);
  }

  /**
   * The verdict at once, where a lease or a refusal that still holds covers it. Where neither does, the
   * store is asked, and the answer is DELAY for the time that this may take (`deadlineSeconds`), which
   * counts no violation; `checkAsync` waits instead. Not for mode `strict`, where nothing is ever covered.
   * @throws `ERR_LIMITER_KEY`, `ERR_LIMITER_COST`, `ERR_LIMITER_CLOCK`, `ERR_LIMITER_MEMORY`;
   * `ERR_LIMITER_OPTION` in mode `strict`.
   */
  check(peerKey: string, cost = 1): CheckResult {
    requireKey(peerKey);
    requireCost(cost);
    if (this.#local !== undefined) return this.#count(this.#local.check(peerKey, cost));
    if (this.#leased === undefined) {
      const message = "check() cannot answer in mode 'strict': call checkAsync()";
      throw limiterError(TypeError, 'ERR_LIMITER_OPTION', message);
    }
    const id = idOf(peerKey);
    const now = readOptionalClock(this.#settings.clock);
    const known = this.#leased.known(id, cost, now);
    return this.#count(known ?? this.#leased.askAhead(id, cost, now));
  }

  /**
   * The verdict, as `RateLimiter.check` gives it: at once where it is covered, else after asking the
   * store, within `deadlineSeconds`. In mode `leased` a refusal holds until the cost is there, and at least
   * until ten tokens have come or a quarter of a second has passed, whichever is sooner.
   * @throws (rejects with) `ERR_LIMITER_KEY`, `ERR_LIMITER_COST`, `ERR_LIMITER_CLOCK`, `ERR_LIMITER_MEMORY`.
   */
  checkAsync(peerKey: string, cost = 1): Promise<CheckResult> {
    try {
      requireKey(peerKey);
      requireCost(cost);
      if (this.#leased !== undefined) return this.#askIfNeeded(this.#leased, idOf(peerKey), cost);
      if (this.#store !== undefined) return this.#strict(this.#store, idOf(peerKey), cost);
      return Promise.resolve(this.check(peerKey, cost));
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * The peer has left this process: what is left of its lease goes back. Its bucket and its violations
   * stay in the store, so that coming back washes nothing. @throws `ERR_LIMITER_KEY`
   */
  removePeer(peerKey: string): void {
    requireKey(peerKey);
    this.#local?.removePeer(peerKey);
    this.#leased?.leave(idOf(peerKey));
  }

  /**
   * Violations of a peer, of all processes, the store being asked. They are forgotten an hour after its last check.
   * @throws (rejects with) `ERR_LIMITER_KEY`, and `ERR_LIMITER_STORE` where the store does not answer.
   */
  async getViolationCount(peerKey: string): Promise<number> {
    requireKey(peerKey);
    if (this.#local !== undefined) return this.#local.getViolationCount(peerKey);
    const id = idOf(peerKey);
    try {
      const reply = await this.#store?.reply('look', id, []);
      const [, violations] = reply as [tokens: string, violations: number];
      return Number(violations) + (this.#leased?.unreported(id) ?? 0);
    } catch (cause) {
      const message = `the store did not say: ${(cause as Error).message}`;
      throw limiterError(Error, 'ERR_LIMITER_STORE', message, cause);
    }
  }

  /**
   * Resolves once the store has been heard of. Need not be called: it is for who would rather not start than
   * start with a store that cannot be used.
   * @throws (rejects with) `ERR_LIMITER_STORE`, saying why: no connection, a password refused, no writes.
   */
  async ready(): Promise<void> {
    await this.#store?.ready();
  }

  /** Counts of this process. Adds up all leases: not for every message. */
  getStats(): SharedStats {
    const store = this.#store;
    const tracked = this.#leased?.trackedPeers ?? this.#local?.getStats().trackedPeers ?? 0;
    return {
      trackedPeers: tracked,
      verdicts: { ...this.#verdicts },
      fallbackVerdicts: store?.fallbacks ?? 0,
      leasedTokens: this.#leased?.leasedTokens() ?? 0,
      evictions: this.#leased?.evictions ?? 0,
      store:
        store === undefined
          ? { state: 'none', nodes: 1, ...NO_CALLS }
          : { state: store.state, nodes: store.nodes, ...store.counters },
    };
  }

  /**
   * Gives back every lease, also those that are being asked for, and stops saying that this process is there.
   * Resolves when that is done; of what does not get there each thousand leases are waited for no longer than
   * `deadlineSeconds`. The client stays open. No check may follow. Closing twice is fine.
   */
  async close(): Promise<void> {
    await this.#leased?.close();
    await this.#store?.close();
  }

  async #askIfNeeded(leased: Leased, key: string, cost: number): Promise<CheckResult> {
    const now = readOptionalClock(this.#settings.clock);
    return this.#count(leased.known(key, cost, now) ?? (await leased.ask(key, cost, now)));
  }

  #strict(store: Store, key: string, cost: number): Promise<CheckResult> {
    return new Promise((resolve) => {
      store.call(key, new StrictCheck(store, key, cost, this.#verdicts, resolve));
    });
  }

  #count(result: CheckResult): CheckResult {
    this.#verdicts[result[0]] += 1;
    return result;
  }
}

/** A check that asks the store. */
class StrictCheck extends Call {
  readonly #store: Store;
  readonly #key: string;
  readonly #cost: number;
  readonly #verdicts: SharedStats['verdicts'];
  readonly #resolve: (result: CheckResult) => void;

  constructor(
    store: Store,
    key: string,
    cost: number,
    verdicts: SharedStats['verdicts'],
    resolve: (result: CheckResult) => void,
  ) {
    super('strict', store.keyOf(key), [String(cost)]);
    this.#store = store;
    this.#key = key;
    this.#cost = cost;
    this.#verdicts = verdicts;
    this.#resolve = resolve;
  }

  override answered(reply: unknown): void {
    const verdict = verdictOf(reply);
    if (Number.isNaN(verdict[1])) this.failed(strangeReply());
    else this.#decide(verdict);
  }

  override failed(error: Error): void {
    this.#decide(this.#store.fallback(this.#key, this.#cost, error));
  }

  #decide(result: CheckResult): void {
    this.#verdicts[result[0]] += 1;
    this.#resolve(result);
  }
}

/** Of the script's reply in mode `strict`. */
function verdictOf(reply: unknown): CheckResult {
  if (reply === 1) return ALLOWED;
  if (reply === 0) return DISCONNECTED;
  // A client may map numbers to texts, and texts to buffers.
  const text = String(reply);
  if (text === '1') return ALLOWED;
  if (text === '0') return DISCONNECTED;
  return [RateLimitAction.DELAY, text === 'inf' ? Infinity : Number(text)];
}
