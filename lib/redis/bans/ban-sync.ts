// BanSync keeps this process's bans and the store's the same: it sends what this process finds, receives what others
// publish, and reads all bans if it may have missed a message. While a call has no reply it makes no other calls, so
// nothing piles up in a client without a connection.

import { detached } from '../../common/timers.js';
import { KeyMap, KeySet } from '../../tables/key-map.js';
import { createStoreClient, type StoreClient, type Subscriber } from '../store/client.js';
import { isForeignKeyMessage, messageOf, storeError } from '../store/replies.js';
import { RETRY_SECONDS, startTimer, type Timer } from '../store/timing.js';
import { Waiters } from '../store/waiters.js';
import { parseMessage } from './ban-scripts.js';
import { isValidBan } from './local-bans.js';
import type { SharedBan } from './shared-ban.js';
import { StoredBans, type Version } from './stored-bans.js';

export interface BanChange extends SharedBan {
  readonly isLifted: boolean;
  /** Whether this process made the change. */
  readonly isOwn: boolean;
}

export interface BanSyncListener {
  onChange(change: BanChange): void;
  /** Receives all bans of the store. They are out of date for the peers for which `hasNewer` returns true. */
  onAll(bans: readonly SharedBan[], hasNewer: (key: string) => boolean): void;
  /** Receives a refusal of one peer's key by the store. */
  onFailure(key: string, error: Error): void;
  onState(state: 'up' | 'down', reason?: Error): void;
  /** Returns what this process knows of a peer. */
  find(key: string): SharedBan | undefined;
  /** Returns all that this process knows, to be sent to a store that has lost its data. */
  all(): readonly SharedBan[];
}

/** How often the version is read, which shows a missed message that nothing else has shown. */
const VERSION_CHECK_SECONDS = 5;
/** Changes that are sent at once. */
const BATCH_SIZE = 100;
/** Beyond so many unsent changes the oldest ones are discarded. */
const MAX_UNSENT = 100_000;

type UnsentChange = 'ban' | 'lift';

export class BanSync {
  /** Changes of other processes received. */
  received = 0;
  readonly #client: StoreClient;
  readonly #stored: StoredBans;
  readonly #listener: BanSyncListener;
  /** Changes to send, the oldest first. A ban is looked up when it is sent, so that its seconds are current. */
  readonly #unsent = new KeyMap<UnsentChange>();
  /** The version of the last change that this process has received or read. Messages change it in place. */
  #known: Version = { epoch: '', version: 0 };
  /** Peers that this process has changed since a read of all bans began; undefined if none is in progress. */
  #changedWhileReading: KeySet | undefined;
  /** Peers of messages received since that read began: what it returns for them may be older. */
  #receivedWhileReading: KeySet | undefined;
  #subscriber: Subscriber | undefined;
  #subscription: 'none' | 'pending' | 'established' = 'none';
  #isBusy = false;
  #mustRead = true;
  #state: 'up' | 'down' | undefined;
  readonly #waiters = new Waiters();
  #timer: Timer | undefined;
  #isClosed = false;

  constructor(client: unknown, prefix: string, deadlineSeconds: number, listener: BanSyncListener) {
    this.#client = createStoreClient(client);
    this.#stored = new StoredBans(this.#client, prefix, deadlineSeconds);
    this.#listener = listener;
    detached(() => this.#subscribe());
    this.#schedule(RETRY_SECONDS);
  }

  get state(): 'up' | 'down' {
    return this.#state ?? 'down';
  }

  /** Changes sent to the store. */
  get sent(): number {
    return this.#stored.sent;
  }

  /** Changes that have not been sent. */
  get unsent(): number {
    return this.#unsent.size;
  }

  /** Sends what this process knows of a peer, or that its ban is lifted. */
  send(key: string, change: 'ban' | 'lift'): void {
    this.#enqueue(key, change);
    this.#changedWhileReading?.add(key);
    // Detached: one round of work sends the changes of several callers, and starts the next round.
    if (this.#state === 'up') detached(() => this.#work());
  }

  /** Resolves once the state is `up`; rejects at once if the store reports an error, otherwise after two seconds. */
  ready(): Promise<void> {
    return this.#waiters.untilReady(() => this.#state === 'up');
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    clearTimeout(this.#timer);
    this.#subscriber?.close();
    this.#waiters.close(storeError('SharedBans is closed'));
    if (this.#state === 'up') await this.#sendAll().catch(() => {});
    this.#client.release();
  }

  #enqueue(key: string, change: UnsentChange): void {
    // Deleted first, so that a newer change of a peer moves to the end.
    this.#unsent.delete(key);
    this.#unsent.set(key, change);
    if (this.#unsent.size > MAX_UNSENT) {
      for (const [oldest] of this.#unsent) {
        this.#unsent.delete(oldest);
        break;
      }
    }
  }

  async #subscribe(): Promise<void> {
    if (this.#isClosed) return;
    this.#subscription = 'pending';
    const onReady = () => {
      this.#mustRead = true;
      // Called shortly before the subscription counts as established.
      setImmediate(() => this.#work());
    };
    try {
      const subscriber = this.#client.duplicate();
      this.#subscriber = subscriber;
      const onMessage = (message: string) => this.#receive(message);
      await subscriber.subscribe(this.#stored.channel, onMessage, onReady);
      this.#subscription = 'established';
      if (this.#isClosed) subscriber.close();
    } catch (error) {
      this.#subscription = 'none';
      this.#failed(storeError(messageOf(error), error));
    }
  }

  /** Sends and reads what is due, unless that is in progress already. */
  #work(): void {
    if (this.#isBusy || this.#isClosed) return;
    if (this.#stored.inFlight > 0) {
      this.#failed(storeError('no reply to the previous call yet'));
      this.#schedule(RETRY_SECONDS);
      return;
    }
    this.#isBusy = true;
    this.#attempt().then(
      () => {
        this.#isBusy = false;
        this.#setState('up');
        this.#waiters.resolveAll();
        if (this.#unsent.size > 0) this.#work();
        else this.#schedule(this.#mustRead ? RETRY_SECONDS : VERSION_CHECK_SECONDS);
      },
      (error) => {
        this.#isBusy = false;
        this.#mustRead = true;
        this.#failed(error);
        this.#schedule(RETRY_SECONDS);
      },
    );
  }

  async #attempt(): Promise<void> {
    // One call finds out whether the store answers, before a hundred calls are made.
    if (this.#state !== 'up') await this.#stored.version();
    await this.#sendAll();
    if (this.#subscription !== 'established') {
      if (this.#subscription === 'none') void this.#subscribe();
      throw storeError('the subscription is not established yet');
    }
    if (this.#mustRead) await this.#read();
  }

  async #sendAll(): Promise<void> {
    while (this.#unsent.size > 0) {
      const batch = [...this.#unsent].slice(0, BATCH_SIZE);
      for (const [key] of batch) this.#unsent.delete(key);
      const results = await Promise.allSettled(
        batch.map(([key, change]) => this.#sendOne(key, change)),
      );
      batch.forEach(([key, change], at) => {
        const isRejected = results[at]?.status === 'rejected';
        if (isRejected && !this.#unsent.has(key)) this.#enqueue(key, change);
      });
      const failed = results.find((result) => result.status === 'rejected');
      if (failed !== undefined) throw failed.reason;
    }
  }

  async #sendOne(key: string, change: UnsentChange): Promise<void> {
    const ban = change === 'ban' ? this.#listener.find(key) : undefined;
    if (change === 'ban' && ban === undefined) return;
    try {
      await this.#stored.change(key, ban);
    } catch (error) {
      const { cause } = error as Error;
      if (!(cause instanceof Error && isForeignKeyMessage(cause.message))) throw error;
      // Not sent again: the store would refuse it again, and it would delay the other changes.
      this.#listener.onFailure(key, error as Error);
    }
  }

  async #read(): Promise<void> {
    this.#mustRead = false;
    // Unsent changes are not in the store yet, so what is read is older.
    const changed = new KeySet(this.#unsent.keys());
    this.#changedWhileReading = changed;
    try {
      await this.#readIfChanged(changed);
    } finally {
      this.#changedWhileReading = undefined;
      this.#receivedWhileReading = undefined;
    }
  }

  async #readIfChanged(changed: KeySet): Promise<void> {
    const before = this.#known;
    const known = await this.#stored.version();
    if (known.epoch === before.epoch && known.version === before.version) return;
    const hasLostData = before.epoch !== '' && known.epoch !== before.epoch;
    // Messages that arrive from here on are newer than what is read.
    this.#known = known;
    const received = new KeySet();
    this.#receivedWhileReading = received;
    const hasNewer = (key: string) => changed.has(key) || received.has(key);
    try {
      const bans = await this.#stored.all();
      if (before.epoch !== '' && !hasLostData) {
        this.#listener.onAll(bans, hasNewer);
      } else {
        for (const ban of bans) {
          if (!hasNewer(ban.key)) {
            this.#listener.onChange({ ...ban, isLifted: false, isOwn: false });
          }
        }
      }
    } catch (error) {
      this.#known = { ...before, version: -1 };
      throw error;
    }
    if (!hasLostData) return;
    for (const { key } of this.#listener.all()) if (!hasNewer(key)) this.#enqueue(key, 'ban');
  }

  #receive(text: string): void {
    const message = parseMessage(text);
    if (message === undefined || !isValidBan(message) || this.#isClosed) return;
    this.#trackVersion(message);
    const { key, seconds, violations, isLifted } = message;
    const isOwn = message.from === this.#stored.nodeId;
    if (!isOwn) this.received += 1;
    // An unsent change will reach the store after this one. An unsent lift ends any ban; an unsent ban outlives a lift.
    const unsent = this.#unsent.get(key);
    if (unsent === 'lift' || (unsent === 'ban' && isLifted)) return;
    this.#receivedWhileReading?.add(key);
    this.#listener.onChange({ key, seconds, violations, isLifted, isOwn });
  }

  /** Reads all bans if a message shows that others were missed. */
  #trackVersion({ epoch, version }: Version): void {
    const known = this.#known;
    if (epoch === known.epoch && version === known.version + 1) {
      known.version = version;
    } else if (epoch !== known.epoch || version > known.version) {
      // Before the first read: the epoch becomes known, so that this read can lift the ban of this message.
      if (known.epoch === '') this.#known = { epoch, version: -1 };
      this.#mustRead = true;
      this.#work();
    }
  }

  #failed(error: Error): void {
    this.#setState('down', error);
    this.#waiters.rejectAll(error);
  }

  #setState(state: 'up' | 'down', reason?: Error): void {
    if (this.#state === state || this.#isClosed) return;
    this.#state = state;
    this.#listener.onState(state, reason);
  }

  #schedule(seconds: number): void {
    clearTimeout(this.#timer);
    if (this.#isClosed) return;
    const work = () => {
      this.#mustRead = true;
      this.#work();
    };
    this.#timer = startTimer(work, seconds * 1000);
  }
}
