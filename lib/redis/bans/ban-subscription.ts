// BanSubscription receives the changes of bans that processes publish. In a cluster it subscribes to the sharded channel if
// that proves to work: a message that it publishes itself must arrive. Clients and servers differ in what they support, and
// not all of them say so. Otherwise, and without a cluster, it subscribes to the channel that all servers know.

import type { StoreClient } from '../store/client.js';
import { messageOf, storeError, timeoutError } from '../store/replies.js';
import { NoServerError } from '../store/shard-subscriber.js';
import type { Subscriber } from '../store/subscriber.js';
import { startTimer } from '../store/timing.js';
import type { StoredBans } from './stored-bans.js';

export interface BanSubscriptionListener {
  onMessage(text: string): void;
  /** Messages arrive from now on. Earlier ones may have been missed. */
  onReady(): void;
  /** The subscription has ended. `open` makes another one. */
  onEnd(reason: unknown): void;
}

/** Sharded subscriptions that fail one after the other until this process gives them up. */
const MOST_FAILURES = 3;
/** Seconds until a message of this process must have come back to it. */
const PROBE_SECONDS = 2;

export class BanSubscription {
  #state: 'none' | 'pending' | 'established' = 'none';
  readonly #client: StoreClient;
  readonly #stored: StoredBans;
  readonly #listener: BanSubscriptionListener;
  #subscriber: Subscriber | undefined;
  #failures = 0;
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
    const mayShard = this.#failures < MOST_FAILURES;
    const sharded = mayShard ? this.#client.shardSubscriber() : undefined;
    try {
      if (sharded !== undefined) await this.#openSharded(sharded);
      else await this.#openPlain();
    } catch (error) {
      this.#state = 'none';
      // Without a cause: another attempt may succeed, so callers of `ready` wait.
      if (sharded === undefined) throw storeError(messageOf(error), error);
      if (error instanceof NoServerError) return;
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
    this.#subscriber?.close();
  }

  async #openPlain(): Promise<void> {
    this.#stored.needsBroadcast = this.#client.isCluster;
    const subscriber = this.#client.duplicate();
    this.#subscriber = subscriber;
    const { onReady } = this.#listener;
    await subscriber.subscribe(this.#stored.channel, this.#receive, onReady, () => {});
    this.#state = 'established';
    if (this.#isClosed) subscriber.close();
  }

  async #openSharded(subscriber: Subscriber): Promise<void> {
    this.#subscriber = subscriber;
    const onEnd = (reason: unknown) => {
      if (this.#subscriber !== subscriber || this.#state !== 'established') return;
      this.#state = 'none';
      this.#listener.onEnd(reason);
    };
    try {
      await subscriber.subscribe(this.#stored.channel, this.#receive, () => {}, onEnd);
      await this.#probe();
    } catch (error) {
      if (!(error instanceof NoServerError)) this.#failures += 1;
      subscriber.close();
      throw error;
    }
    this.#failures = 0;
    this.#state = 'established';
    this.#listener.onReady();
  }

  /** Publishes a message. Resolves when it has arrived. */
  async #probe(): Promise<void> {
    this.#probes += 1;
    const probe = JSON.stringify({ probe: `${this.#stored.nodeId} ${this.#probes}` });
    let timer: ReturnType<typeof startTimer> | undefined;
    const arrived = new Promise<void>((resolve, reject) => {
      timer = startTimer(() => reject(timeoutError()), PROBE_SECONDS * 1000);
      this.#onProbe = (text) => {
        if (text === probe) resolve();
      };
    });
    try {
      await Promise.all([arrived, this.#stored.publishSharded(probe)]);
    } finally {
      clearTimeout(timer);
      this.#onProbe = undefined;
    }
  }

  readonly #receive = (text: string): void => {
    this.#onProbe?.(text);
    this.#listener.onMessage(text);
  };
}
