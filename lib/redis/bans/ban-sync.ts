// BanSync keeps this process's bans and the store's the same: it sends what this process finds, receives what others
// publish, and reads all bans if it may have missed a message. What each knows is merged (ban-state.ts), so nothing that is
// missing somewhere counts as lifted, and what the store turns out to lack is sent again. While a call has no reply it
// makes no other calls, so nothing piles up in a client without a connection.

import { detached } from '../../common/timers.js';
import { KeyMap } from '../../tables/key-map.js';
import { createStoreClient, type StoreClient } from '../store/client.js';
import { messageOf, storeError } from '../store/replies.js';
import { nowSeconds, RETRY_SECONDS, startTimer, type Timer } from '../store/timing.js';
import { Waiters } from '../store/waiters.js';
import { parseMessage } from './ban-scripts.js';
import { type BanState, hasNews, NOTHING, parseState } from './ban-state.js';
import { BanSubscription } from './ban-subscription.js';
import type { FleetClock } from './fleet-clock.js';
import { isKey } from './local-bans.js';
import { type BanReport, StoredBans, type Version } from './stored-bans.js';

export interface BanSyncListener {
  /** Receives what the store knows of a peer. `isOwn`: this process has told it. */
  onPeer(key: string, state: BanState, isOwn: boolean): void;
  onState(state: 'up' | 'down', reason?: Error): void;
  /** Receives what to add to all times of the fleet's clock. */
  onCorrection(seconds: number): void;
  /** Returns what this process knows of a peer. */
  find(key: string): BanState | undefined;
  /** The peers of whom this process knows something. */
  keys(): readonly string[];
}

/** How often the version is read, which shows a missed message that nothing else has shown. */
const VERSION_CHECK_SECONDS = 5;
/** Peers that are compared with the store's before other work of the process gets a turn. */
const PEERS_AT_ONCE = 1000;
/** Changes that are sent at once. */
const BATCH_SIZE = 500;
/** Beyond so many unsent changes the oldest ones are discarded, and found again by the next read of all bans. */
const MAX_UNSENT = 100_000;

export class BanSync {
  /** Changes of other processes received. */
  received = 0;
  readonly #client: StoreClient;
  readonly #stored: StoredBans;
  readonly #listener: BanSyncListener;
  /** Peers of whom the store is to be told, the oldest first. */
  readonly #unsent = new KeyMap<true>();
  /** Violations that the store does not know. */
  readonly #counts = new KeyMap<number>();
  /** The version of the last change that this process has received or read. Messages change it in place. */
  #known: Version = { epoch: '', version: 0 };
  readonly #subscription: BanSubscription;
  /** Whether messages may have been missed since the subscription was made. */
  #isFreshSubscription = true;
  /** The version of a change that was read and whose message has not arrived. */
  #missingMessage: number | undefined;
  #isBusy = false;
  #mustRead = true;
  /** Whether unsent changes were discarded, so that the store may lack some. */
  #hasDiscarded = false;
  #lastReadAt = Number.NEGATIVE_INFINITY;
  /** Whether another process tells the store what it has lost. */
  #isWaiting = false;
  #state: 'up' | 'down' | undefined;
  readonly #waiters = new Waiters();
  #timer: Timer | undefined;
  #isClosed = false;

  constructor(client: unknown, prefix: string, deadlineSeconds: number, listener: BanSyncListener) {
    this.#client = createStoreClient(client);
    this.#listener = listener;
    this.#stored = new StoredBans(this.#client, prefix, deadlineSeconds, (seconds) => {
      listener.onCorrection(seconds);
    });
    this.#subscription = new BanSubscription(this.#client, this.#stored, {
      onMessage: (message) => this.#receive(message),
      onReady: () => {
        this.#mustRead = true;
        this.#isFreshSubscription = true;
        // Called shortly before the subscription counts as established.
        setImmediate(() => this.#work());
      },
      onEnd: (reason) => {
        this.#failed(storeError(messageOf(reason), reason));
        this.#work();
      },
    });
    this.#subscribe();
    this.#schedule(RETRY_SECONDS);
  }

  get clock(): FleetClock {
    return this.#stored.clock;
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

  /** Sends what this process knows of a peer. */
  send(key: string): void {
    this.#enqueue(key);
    // Detached: one round of work sends the changes of several callers, and starts the next round.
    if (this.#state === 'up') detached(() => this.#work());
  }

  /** Counts a violation of a peer, to be sent at the next occasion. Returns how many have not been sent. */
  count(key: string): number {
    const violations = this.uncounted(key) + 1;
    if (violations > 1 || this.#counts.size < MAX_UNSENT) this.#counts.set(key, violations);
    return violations;
  }

  /** Violations of a peer that have not been sent. */
  uncounted(key: string): number {
    return this.#counts.get(key) ?? 0;
  }

  /** Forgets violations that have not been sent. */
  forgetCount(key: string): void {
    this.#counts.delete(key);
  }

  /** Resolves once the state is `up`; rejects at once if the store reports an error, otherwise after two seconds. */
  ready(): Promise<void> {
    return this.#waiters.untilReady(
      () => this.#state === 'up',
      () => this.#client.lastError(),
    );
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    clearTimeout(this.#timer);
    this.#subscription.close();
    this.#waiters.close(storeError('SharedBans is closed'));
    for (const key of this.#counts.keys()) this.#enqueue(key);
    if (this.#state === 'up') await this.#sendAll().catch(() => {});
    this.#client.release();
  }

  #enqueue(key: string): void {
    // Deleted first, so that a newer change of a peer moves to the end.
    this.#unsent.delete(key);
    this.#unsent.set(key, true);
    if (this.#unsent.size <= MAX_UNSENT) return;
    this.#hasDiscarded = true;
    for (const oldest of this.#unsent.keys()) {
      this.#unsent.delete(oldest);
      break;
    }
  }

  #subscribe(how: 'open' | 'renew' = 'open'): void {
    // Detached: the subscription serves all callers.
    detached(() => {
      this.#subscription[how]().catch((error) => this.#failed(error));
    });
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
    // One call finds out whether the store answers, and the time by which what follows is dated.
    if (this.#state !== 'up') await this.#stored.version(this.#known);
    await this.#sendAll();
    if (this.#subscription.state !== 'established') {
      this.#subscribe();
      throw storeError('the subscription is not established yet');
    }
    const isDue = nowSeconds() - this.#lastReadAt > VERSION_CHECK_SECONDS;
    if (this.#mustRead || isDue) await this.#read();
  }

  async #sendAll(): Promise<void> {
    while (this.#unsent.size > 0) {
      const batch: string[] = [];
      for (const key of this.#unsent.keys()) if (batch.push(key) === BATCH_SIZE) break;
      const reports = batch.map((key) => this.#takeReport(key));
      try {
        const news = reports.filter((report) => report !== undefined);
        if (news.length > 0) await this.#stored.change(news, this.#known);
      } catch (error) {
        // Violations are not sent again: the store may have counted them although its reply is missing.
        for (const key of batch) if (!this.#unsent.has(key)) this.#enqueue(key);
        throw error;
      }
    }
  }

  #takeReport(key: string): BanReport | undefined {
    this.#unsent.delete(key);
    const more = this.uncounted(key);
    this.#counts.delete(key);
    const state = this.#listener.find(key);
    if (state === undefined && more === 0) return undefined;
    return { key, state: state ?? NOTHING, more };
  }

  async #read(): Promise<void> {
    const before = this.#known;
    let found = await this.#stored.version(before);
    this.#lastReadAt = nowSeconds();
    const isSame = found.epoch === before.epoch && found.version === before.version;
    const hasLostData = before.epoch !== '' && found.epoch !== before.epoch;
    // One process tells the store what it lost. The others wait, and find that nothing is left to tell.
    if (hasLostData) found = await this.#stored.version(before, 'take');
    this.#isWaiting = hasLostData && !found.isTeller;
    this.#mustRead = this.#isWaiting;
    // A store that came back with older data has ended all connections. Since then other processes may have made as many
    // changes as it lost, so that its version is the known one again.
    const isUnchanged = isSame && !this.#hasDiscarded && !this.#isFreshSubscription;
    if (isUnchanged || this.#isWaiting) return;
    this.#hasDiscarded = false;
    const isMissed = !this.#isFreshSubscription && !hasLostData && before.epoch !== '';
    this.#missingMessage = isMissed ? found.version : undefined;
    this.#isFreshSubscription = false;
    // Messages that arrive from here on are counted from this version.
    this.#known = { epoch: found.epoch, version: found.version };
    try {
      await this.#exchange(await this.#stored.all(), hasLostData);
      if (!hasLostData) return;
      await this.#sendAll();
      await this.#stored.version(this.#known, 'free');
    } catch (error) {
      this.#known = { ...before, version: -1 };
      throw error;
    }
  }

  /** Takes over what the store knows, and sends what it does not know. Other work goes on meanwhile. */
  async #exchange(stored: KeyMap<BanState>, hasLostData: boolean): Promise<void> {
    let peers = 0;
    const isDue = () => {
      peers += 1;
      return peers % PEERS_AT_ONCE === 0;
    };
    for (const [key, state] of stored) {
      if (isDue()) await nextTurn();
      this.#listener.onPeer(key, state, false);
    }
    for (const key of this.#listener.keys()) {
      if (isDue()) await nextTurn();
      const here = this.#listener.find(key);
      const there = stored.get(key) ?? NOTHING;
      if (here === undefined) continue;
      if (hasNews(here, there) || (hasLostData && here.violations > there.violations)) {
        this.#enqueue(key);
      }
    }
  }

  #receive(text: string): void {
    const message = parseMessage(text);
    if (message === undefined || this.#isClosed) return;
    this.#trackVersion(message);
    const isOwn = message.from === this.#stored.nodeId;
    for (const peer of message.peers) {
      const [key, value] = Array.isArray(peer) ? peer : [];
      const state = parseState(value);
      if (!isKey(key) || state === undefined) continue;
      if (!isOwn) this.received += 1;
      this.#listener.onPeer(key, state, isOwn);
    }
  }

  /** Reads all bans if a message shows that others were missed. */
  #trackVersion({ epoch, version }: Version): void {
    const known = this.#known;
    if (version >= (this.#missingMessage ?? Infinity)) this.#missingMessage = undefined;
    if (epoch === known.epoch && version === known.version + 1) {
      known.version = version;
    } else if (epoch !== known.epoch || version > known.version) {
      this.#mustRead = true;
      if (!this.#isWaiting) this.#work();
    }
  }

  /** Makes a new subscription if the message of a change did not arrive: the connection may be dead without an end. */
  #renewSubscription(): void {
    if (this.#missingMessage === undefined || this.#subscription.state !== 'established') return;
    this.#missingMessage = undefined;
    this.#subscribe('renew');
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
      this.#renewSubscription();
      for (const key of this.#counts.keys()) this.#enqueue(key);
      this.#work();
    };
    this.#timer = startTimer(work, seconds * 1000);
  }
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
