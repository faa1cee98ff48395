// BanSubscription receives the changes of bans that processes publish. In a cluster it subscribes to the sharded channel if
// that proves to work: a message that it publishes itself must arrive. Clients, servers and permissions differ in what they
// support, and not all of them say so. Otherwise it subscribes to the channel that all servers know, and goes on to try the
// sharded one beside it. So it does not matter why a sharded subscription failed: what failed for a while is found again.

import type { StoreClient } from '../store/client.js';
import { messageOf, storeError, timeoutError } from '../store/replies.js';
import { NoServerError } from '../store/shard-subscriber.js';
import type { Subscriber } from '../store/subscriber.js';
import { startTimer, type Timer } from '../store/timing.js';
import type { StoredBans } from './stored-bans.js';

export interface BanSubscriptionListener {
  onMessage(text: string): void;
  /** Messages arrive from now on. Earlier ones may have been missed. */
  onReady(): void;
  /** The subscription has ended. `open` makes another one. */
  onEnd(reason: unknown): void;
}

/** After so many failed sharded subscriptions in a row, this process subscribes to the plain channel. */
const MOST_FAILURES = 3;
/** Seconds until a message of this process must have come back to it. */
const PROBE_SECONDS = 2;
/** Seconds until the sharded channel is tried again beside the plain one: at first, and at most after doubling. */
const FIRST_RETRY_SECONDS = 1;
const MAX_RETRY_SECONDS = 60;

export class BanSubscription {
  #state: 'none' | 'pending' | 'established' = 'none';
  /** The number of the attempt that decides the state: an error of an earlier one means nothing any more. */
  #attempt = 0;
  readonly #client: StoreClient;
  readonly #stored: StoredBans;
  readonly #listener: BanSubscriptionListener;
  #subscriber: Subscriber | undefined;
  /** A sharded subscription that is being made. */
  #candidate: Subscriber | undefined;
  #failures = 0;
  #retrySeconds = FIRST_RETRY_SECONDS;
  #retryTimer: Timer | undefined;
  #probes = 0;
  #onProbe: ((text: string) => void) | undefined;
  #isClosed = false;

  constructor(client: StoreClient, stored: StoredBans, listener: BanSubscriptionListener) {
    this.#client = client;
    this.#stored = stored;
    this.#listener = listener;
  }

  get state(): 'none' | 'pending' | 'established' {
    return this.#state;
  }

  /** Subscribes, unless that has been done or is in progress. @throws (rejects with) `ERR_LIMITER_STORE` */
  async open(): Promise<void> {
    if (this.#isClosed || this.#state !== 'none') return;
    this.#state = 'pending';
    this.#attempt += 1;
    const attempt = this.#attempt;
    const sharded = this.#failures < MOST_FAILURES ? this.#client.shardSubscriber() : undefined;
    try {
      if (sharded !== undefined) await this.#openSharded(sharded);
      else await this.#openPlain();
    } catch (error) {
      if (attempt !== this.#attempt) return;
      this.#state = 'none';
      if (sharded === undefined) throw storeError(messageOf(error), error);
      this.#failures += 1;
      if (error instanceof NoServerError) return;
      // Without a cause: another attempt may succeed, so callers of `ready` wait.
      throw storeError(`a sharded subscription does not work: ${messageOf(error)}`);
    }
  }

  /** Makes a new subscription: the connection may be dead without an end. @throws (rejects with) `ERR_LIMITER_STORE` */
  async renew(): Promise<void> {
    this.#subscriber?.close();
    this.#state = 'none';
    await this.open();
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#retryTimer);
    this.#subscriber?.close();
    this.#candidate?.close();
  }

  async #openPlain(): Promise<void> {
    this.#retryLater();
    this.#stored.needsBroadcast = this.#client.isCluster;
    const subscriber = this.#client.duplicate();
    this.#subscriber = subscriber;
    const { onReady } = this.#listener;
    await subscriber.subscribe(this.#stored.channel, this.#receive, onReady, () => {});
    // A sharded subscription may have replaced it meanwhile.
    if (this.#isClosed || this.#subscriber !== subscriber) {
      subscriber.close();
      return;
    }
    this.#state = 'established';
  }

  /** Tries the sharded channel later, beside the plain one, whether or not that works. */
  #retryLater(): void {
    if (this.#isClosed || !this.#client.isCluster) return;
    if (this.#candidate !== undefined || this.#retryTimer !== undefined) return;
    this.#retryTimer = startTimer(() => {
      this.#retryTimer = undefined;
      const sharded = this.#client.shardSubscriber();
      if (sharded === undefined) return;
      this.#openSharded(sharded).catch(() => {
        this.#retrySeconds = Math.min(this.#retrySeconds * 2, MAX_RETRY_SECONDS);
        this.#retryLater();
      });
    }, this.#retrySeconds * 1000);
  }

  /** Makes a sharded subscription, which replaces the present one once it works. */
  async #openSharded(subscriber: Subscriber): Promise<void> {
    let fail: ((reason: unknown) => void) | undefined;
    const onEnd = (reason: unknown) => {
      fail?.(reason);
      if (this.#subscriber !== subscriber || this.#state !== 'established') return;
      this.#state = 'none';
      this.#listener.onEnd(reason);
    };
    this.#candidate = subscriber;
    try {
      await subscriber.subscribe(this.#stored.channel, this.#receive, () => {}, onEnd);
      const ended = new Promise<never>((_, reject) => {
        fail = reject;
      });
      await this.#probe(ended);
    } catch (error) {
      subscriber.close();
      throw error;
    } finally {
      fail = undefined;
      if (this.#candidate === subscriber) this.#candidate = undefined;
    }
    if (this.#isClosed) {
      subscriber.close();
      return;
    }
    // Not before the new one works: so no message is missed.
    this.#attempt += 1;
    this.#subscriber?.close();
    this.#subscriber = subscriber;
    this.#stored.needsBroadcast = false;
    this.#failures = 0;
    this.#retrySeconds = FIRST_RETRY_SECONDS;
    this.#state = 'established';
    this.#listener.onReady();
  }

  /** Publishes a message. Resolves when it has arrived; rejects if `ended` does. */
  async #probe(ended: Promise<never>): Promise<void> {
    this.#probes += 1;
    const probe = JSON.stringify({ probe: `${this.#stored.nodeId} ${this.#probes}` });
    let timer: Timer | undefined;
    let onProbe: ((text: string) => void) | undefined;
    const arrived = new Promise<void>((resolve, reject) => {
      timer = startTimer(() => reject(timeoutError()), PROBE_SECONDS * 1000);
      onProbe = (text) => {
        if (text === probe) resolve();
      };
      this.#onProbe = onProbe;
    });
    try {
      const published = Promise.all([arrived, this.#stored.publishSharded(probe)]);
      await Promise.race([published, ended]);
    } finally {
      clearTimeout(timer);
      if (this.#onProbe === onProbe) this.#onProbe = undefined;
    }
  }

  readonly #receive = (text: string): void => {
    this.#onProbe?.(text);
    this.#listener.onMessage(text);
  };
}
