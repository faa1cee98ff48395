// How bans get to the store and from it: tells one after the other what this process found, listens to
// what others find, and reads all where something was missed. Knows names, seconds and violations.

import { BAN, LIFT, NAMES, VALUES, VERSION } from './ban-scripts.js';
import type { SharedBan } from './bans.js';
import { type StoreClient, type Subscription, storeClient } from './client.js';
import { storeKey } from './keys.js';

export interface Told extends SharedBan {
  readonly isLifted: boolean;
}

interface Listener {
  told(told: Told): void;
  /** Everything the store has. */
  all(bans: readonly SharedBan[]): void;
  /** Everything this process has, to be told to a store that has lost it. */
  mine(): readonly SharedBan[];
  /** What is known of a peer now. */
  find(key: string): SharedBan | undefined;
  onState(state: 'up' | 'down', reason?: Error): void;
}

const RETRY_SECONDS = 0.25;
/** How often it is asked whether something was missed that nothing else has shown. */
const LOOK_SECONDS = 5;
const PAGE = 500;
/** What is told at once. */
const BATCH = 100;
/** Most that is kept to be told later; then what has waited longest is given up. */
const MOST_WAITING = 100_000;

type Waiting = 'ban' | 'lift';

export class BanStore {
  readonly counters = { sent: 0, received: 0 };
  readonly #client: StoreClient;
  readonly #prefix: string;
  readonly #index: string;
  readonly #version: string;
  readonly #listener: Listener;
  readonly #node = Math.random().toString(36).slice(2);
  readonly #waiting = new Map<string, Waiting>();
  #known = { epoch: '', version: 0 };
  #subscription: Subscription | undefined;
  #isBusy = false;
  #mustLook = true;
  #state: 'up' | 'down' = 'down';
  #timer: ReturnType<typeof setTimeout> | undefined;
  #isClosed = false;

  constructor(client: unknown, prefix: string, listener: Listener) {
    this.#client = storeClient(client);
    this.#prefix = prefix;
    this.#index = `${prefix}:{bans}`;
    this.#version = `${prefix}:{bans}#version`;
    this.#listener = listener;
    this.#listen();
  }

  get state(): 'up' | 'down' {
    return this.#state;
  }

  get waiting(): number {
    return this.#waiting.size;
  }

  /** What is known of this peer, or that its ban is lifted, is to be told. */
  tell(key: string, what: 'ban' | 'lift'): void {
    this.#wait(key, what);
    if (this.#state === 'up') this.#work();
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    this.#subscription?.close();
    if (this.#state === 'up') await this.#tell().catch(() => {});
    this.#client.release();
  }

  #wait(key: string, waiting: Waiting): void {
    // What was said last goes last.
    this.#waiting.delete(key);
    this.#waiting.set(key, waiting);
    if (this.#waiting.size > MOST_WAITING) {
      for (const [oldest] of this.#waiting) {
        this.#waiting.delete(oldest);
        break;
      }
    }
  }

  #listen(): void {
    const heard = (message: string) => this.#hear(message);
    const ready = () => {
      this.#mustLook = true;
      this.#work();
    };
    this.#client.subscribe(this.#index, heard, ready).then(
      (subscription) => {
        this.#subscription = subscription;
        if (this.#isClosed) subscription.close();
      },
      (error) => {
        this.#change('down', error);
        this.#later(RETRY_SECONDS, () => this.#listen());
      },
    );
  }

  /** Tells what waits, and looks for what was missed: one such work at a time. */
  #work(): void {
    if (this.#isBusy || this.#isClosed) return;
    this.#isBusy = true;
    this.#tell()
      .then(() => (this.#mustLook ? this.#look() : undefined))
      .then(
        () => {
          this.#isBusy = false;
          this.#change('up');
          if (this.#waiting.size > 0) this.#work();
          else this.#later(LOOK_SECONDS, () => this.#lookAgain());
        },
        (error) => {
          this.#isBusy = false;
          this.#mustLook = true;
          this.#change('down', error);
          this.#later(RETRY_SECONDS, () => this.#work());
        },
      );
  }

  #lookAgain(): void {
    this.#mustLook = true;
    this.#work();
  }

  async #tell(): Promise<void> {
    while (this.#waiting.size > 0) {
      const batch = [...this.#waiting].slice(0, BATCH);
      for (const [key] of batch) this.#waiting.delete(key);
      const told = await Promise.allSettled(batch.map(([key, what]) => this.#tellOne(key, what)));
      const failed = told.find((result) => result.status === 'rejected');
      if (failed === undefined) continue;
      // Unless there is news since.
      for (const [key, what] of batch) if (!this.#waiting.has(key)) this.#wait(key, what);
      throw failed.reason;
    }
  }

  async #tellOne(key: string, waiting: Waiting): Promise<void> {
    const args = [JSON.stringify(key), Math.random().toString(36).slice(2), this.#node];
    const keys = [this.#index, this.#version, storeKey(this.#prefix, 'bans', key)];
    this.counters.sent += 1;
    if (waiting === 'lift') {
      await this.#client.eval(LIFT, keys, [...args, this.#index]);
      return;
    }
    const ban = this.#listener.find(key);
    if (ban === undefined) return;
    const what = [String(ban.seconds), String(ban.violations)];
    await this.#client.eval(BAN, keys, [...args, ...what, this.#index]);
  }

  async #look(): Promise<void> {
    this.#mustLook = false;
    const { epoch, version } = await this.#versionNow();
    if (epoch === this.#known.epoch && version === this.#known.version) return;
    const hasLost = this.#known.epoch !== '' && epoch !== this.#known.epoch;
    const bans = await this.#all();
    const after = await this.#versionNow();
    // Something changed meanwhile: a page may have missed it.
    if (after.version !== version || after.epoch !== epoch) this.#mustLook = true;
    if (this.#known.epoch !== '' && !hasLost) {
      this.#listener.all(bans);
    } else {
      for (const ban of bans) this.#listener.told({ ...ban, isLifted: false });
    }
    if (hasLost) for (const { key } of this.#listener.mine()) this.#wait(key, 'ban');
    this.#known = { epoch, version };
  }

  async #versionNow(): Promise<{ epoch: string; version: number }> {
    const reply = await this.#client.eval(VERSION, [this.#index, this.#version], []);
    const [epoch, version] = reply as [string, string];
    return { epoch, version: Number(version) };
  }

  async #all(): Promise<SharedBan[]> {
    const bans: SharedBan[] = [];
    for (let from = 0; ; from += PAGE) {
      const page = await this.#client.eval(NAMES, [this.#index], [String(from), String(PAGE)]);
      const names = (page as string[]).map((name) => JSON.parse(name) as string);
      if (names.length === 0) return bans;
      const keys = names.map((name) => storeKey(this.#prefix, 'bans', name));
      const values = (await this.#client.eval(VALUES, keys, [])) as string[];
      values.forEach((value, at) => {
        if (value === '') return;
        const [seconds, violations] = value.split(' ').map(Number) as [number, number];
        bans.push({ key: names[at] as string, seconds, violations });
      });
    }
  }

  #hear(message: string): void {
    const said = parse(message);
    if (said === undefined) return;
    if (said.epoch === this.#known.epoch && said.version === this.#known.version + 1) {
      this.#known.version = said.version;
    } else if (said.epoch !== this.#known.epoch || said.version > this.#known.version) {
      this.#mustLook = true;
      this.#work();
    }
    if (said.from === this.#node) return;
    this.counters.received += 1;
    const { key, seconds = 0, violations = 0, lifted = false } = said;
    this.#listener.told({ key, seconds, violations, isLifted: lifted });
  }

  #change(state: 'up' | 'down', reason?: Error): void {
    if (this.#state === state || this.#isClosed) return;
    this.#state = state;
    this.#listener.onState(state, reason);
  }

  #later(seconds: number, then: () => void): void {
    clearTimeout(this.#timer);
    if (this.#isClosed) return;
    this.#timer = setTimeout(then, seconds * 1000);
    this.#timer.unref?.();
  }
}

interface Message {
  epoch: string;
  version: number;
  key: string;
  from: string;
  seconds?: number;
  violations?: number;
  lifted?: boolean;
}

/** Anybody may publish anything. */
function parse(message: string): Message | undefined {
  try {
    const said = JSON.parse(message);
    const isOne = typeof said.key === 'string' && Number.isSafeInteger(said.version);
    return isOne ? said : undefined;
  } catch {
    return undefined;
  }
}
