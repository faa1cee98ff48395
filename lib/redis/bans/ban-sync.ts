// How bans get to the store and from it: tells one after the other what this process found, listens to
// what all find, and reads all where something was missed. Every question has a deadline; while one is
// unanswered none follows, so nothing gathers in a client that is not connected. Knows ids, seconds and
// violations.

import { KeyMap, KeySet } from '../../key-map.js';
import { detached } from '../../timers.js';
import { type StoreClient, storeClient } from '../store/client.js';
import { Deadlines, Pending } from '../store/deadlines.js';
import { storeKey } from '../store/keys.js';
import { storeError } from '../store/replies.js';
import { BAN, LIFT, MOST_SECONDS, NAMES, nameOf, parse, VALUES, VERSION } from './ban-scripts.js';
import { isBan } from './local-bans.js';
import type { SharedBan } from './shared-ban.js';

export interface Told extends SharedBan {
  readonly isLifted: boolean;
  /** This process has told it. */
  readonly isOwn: boolean;
}

interface Listener {
  told(told: Told): void;
  /** Everything the store has; but of those that are news to it, what it says is out of date. */
  all(bans: readonly SharedBan[], isNews: (key: string) => boolean): void;
  /** Everything this process has, to be told to a store that has lost it. */
  mine(): readonly SharedBan[];
  /** What is known of a peer now. */
  find(key: string): SharedBan | undefined;
  /** The store refuses the key of one peer. */
  onFailure(key: string, error: Error): void;
  onState(state: 'up' | 'down', reason?: Error): void;
}

const RETRY_SECONDS = 0.25;
/** How often it is asked whether something was missed that nothing else has shown. */
const LOOK_SECONDS = 5;
const READY_SECONDS = 2;
/** What waits for longer than its deadline and so much more is not carried out. */
const LATE_SECONDS = 1;
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
  readonly #deadlineSeconds: number;
  readonly #deadlines: Deadlines;
  readonly #listener: Listener;
  readonly #node = Math.random().toString(36).slice(2);
  readonly #waiting = new KeyMap<Waiting>();
  #known = { epoch: '', version: 0 };
  /** The store's time less ours. */
  #offset = 0;
  /** What this process found since a look at the store began. */
  #found: KeySet | undefined;
  /** What it heard of since the look knows the number of the last change: what is read may be older. */
  #heard: KeySet | undefined;
  #listening: 'no' | 'soon' | 'yes' = 'no';
  /** Ends the connection that listens, or is to listen. */
  #endOwn = () => {};
  #unanswered = 0;
  #isBusy = false;
  #mustLook = true;
  #state: 'up' | 'down' | undefined;
  #attempts: { go: () => void; stop: (error: Error) => void }[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;
  #isClosed = false;

  constructor(client: unknown, prefix: string, deadlineSeconds: number, listener: Listener) {
    this.#client = storeClient(duplicated(client, (end) => (this.#endOwn = end)));
    this.#prefix = prefix;
    this.#index = `${prefix}:{bans}`;
    this.#version = `${prefix}:{bans}#version`;
    this.#deadlineSeconds = deadlineSeconds;
    this.#deadlines = new Deadlines(deadlineSeconds);
    this.#listener = listener;
    detached(() => this.#subscribe());
    this.#later(RETRY_SECONDS);
  }

  get state(): 'up' | 'down' {
    return this.#state ?? 'down';
  }

  get waiting(): number {
    return this.#waiting.size;
  }

  /** What is known of this peer, or that its ban is lifted, is to be told. */
  tell(key: string, what: 'ban' | 'lift'): void {
    this.#wait(key, what);
    this.#found?.add(key);
    // Other callers' bans are told in the same work, and the next follows from it.
    if (this.#state === 'up') detached(() => this.#work());
  }

  /** Resolves once it is up; rejects with what is wrong, at once if the store says so, else after two seconds. */
  async ready(): Promise<void> {
    const until = seconds() + READY_SECONDS;
    while (this.#state !== 'up') {
      if (this.#isClosed) throw storeError('it is closed');
      try {
        await new Promise<void>((go, stop) => this.#attempts.push({ go, stop }));
      } catch (error) {
        if ((error as Error).cause !== undefined || seconds() > until) throw error;
      }
    }
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    clearTimeout(this.#timer);
    this.#endOwn();
    for (const { stop } of this.#attempts.splice(0)) stop(storeError('it is closed'));
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

  #subscribe(): void {
    if (this.#isClosed) return;
    this.#listening = 'soon';
    const heard = (message: string) => this.#hear(message);
    const ready = () => {
      this.#mustLook = true;
      // It is called a moment before the subscription is there.
      setImmediate(() => this.#work());
    };
    this.#client.subscribe(this.#index, heard, ready).then(
      (subscription) => {
        this.#listening = 'yes';
        if (this.#isClosed) subscription.close();
      },
      (error) => {
        this.#listening = 'no';
        this.#failed(storeError((error as Error).message, error));
      },
    );
  }

  /** Tells what waits, and looks for what was missed: one such work at a time. */
  #work(): void {
    if (this.#isBusy || this.#isClosed) return;
    if (this.#unanswered > 0) {
      this.#failed(storeError('it has not answered yet'));
      this.#later(RETRY_SECONDS);
      return;
    }
    this.#isBusy = true;
    this.#attempt().then(
      () => {
        this.#isBusy = false;
        this.#change('up');
        for (const { go } of this.#attempts.splice(0)) go();
        if (this.#waiting.size > 0) this.#work();
        else this.#later(this.#mustLook ? RETRY_SECONDS : LOOK_SECONDS);
      },
      (error) => {
        this.#isBusy = false;
        this.#mustLook = true;
        this.#failed(error);
        this.#later(RETRY_SECONDS);
      },
    );
  }

  async #attempt(): Promise<void> {
    // A store that may not answer is asked one thing, and not told a hundred.
    if (this.#state !== 'up') await this.#versionNow();
    await this.#tell();
    if (this.#listening !== 'yes') {
      if (this.#listening === 'no') this.#subscribe();
      throw storeError('nothing can be heard from it yet');
    }
    if (this.#mustLook) await this.#look();
  }

  async #tell(): Promise<void> {
    while (this.#waiting.size > 0) {
      const batch = [...this.#waiting].slice(0, BATCH);
      for (const [key] of batch) this.#waiting.delete(key);
      const told = await Promise.allSettled(batch.map(([key, what]) => this.#tellOne(key, what)));
      batch.forEach(([key, what], at) => {
        // Unless there is news since.
        if (told[at]?.status === 'rejected' && !this.#waiting.has(key)) this.#wait(key, what);
      });
      const failed = told.find((result) => result.status === 'rejected');
      if (failed !== undefined) throw failed.reason;
    }
  }

  async #tellOne(key: string, waiting: Waiting): Promise<void> {
    const ban = waiting === 'ban' ? this.#listener.find(key) : undefined;
    if (waiting === 'ban' && ban === undefined) return;
    const keys = [this.#index, this.#version, storeKey(this.#prefix, 'bans', key)];
    const latest = seconds() + this.#offset + this.#deadlineSeconds + LATE_SECONDS;
    const args = [JSON.stringify(key), Math.random().toString(36).slice(2), this.#node];
    args.push(String(latest));
    if (ban !== undefined) {
      args.push(String(Math.min(ban.seconds, MOST_SECONDS)), String(ban.violations));
    }
    this.counters.sent += 1;
    try {
      const reply = await this.#ask(ban === undefined ? LIFT : BAN, keys, [...args, this.#index]);
      if (reply === 'late') throw storeError('it did not get to it in time');
    } catch (error) {
      const { cause } = error as Error;
      if (!(cause instanceof Error && /^(ERR )?WRONGTYPE/.test(cause.message))) throw error;
      // Told again it would be refused again, and hold up the others.
      this.#listener.onFailure(key, error as Error);
    }
  }

  async #look(): Promise<void> {
    this.#mustLook = false;
    // What waits has not been told yet, so it is not among what is read.
    this.#found = new KeySet(this.#waiting.keys());
    try {
      await this.#readIfChanged(this.#found);
    } finally {
      this.#found = undefined;
      this.#heard = undefined;
    }
  }

  async #readIfChanged(found: KeySet): Promise<void> {
    const before = this.#known;
    const known = await this.#versionNow();
    if (known.epoch === before.epoch && known.version === before.version) return;
    const hasLost = before.epoch !== '' && known.epoch !== before.epoch;
    // What is said from here on comes after what is read.
    this.#known = known;
    const heard = new KeySet();
    this.#heard = heard;
    const isNews = (key: string) => found.has(key) || heard.has(key);
    try {
      const bans = await this.#all();
      if (before.epoch !== '' && !hasLost) {
        this.#listener.all(bans, isNews);
      } else {
        for (const ban of bans) {
          if (!isNews(ban.key)) this.#listener.told({ ...ban, isLifted: false, isOwn: false });
        }
      }
    } catch (error) {
      this.#known = { ...before, version: -1 };
      throw error;
    }
    if (!hasLost) return;
    for (const { key } of this.#listener.mine()) if (!isNews(key)) this.#wait(key, 'ban');
  }

  async #versionNow(): Promise<{ epoch: string; version: number }> {
    const reply = await this.#ask(VERSION, [this.#index, this.#version], []);
    const [epoch, version, time] = reply as [string, string, string];
    this.#offset = Number(time) - seconds();
    return { epoch, version: Number(version) };
  }

  async #all(): Promise<SharedBan[]> {
    const bans = new KeyMap<SharedBan>();
    for (let from = String(seconds() + this.#offset); ; ) {
      const page = (await this.#ask(NAMES, [this.#index], [from, String(PAGE)])) as string[];
      const names = page.filter((_, at) => at % 2 === 0).map(nameOf);
      for (const ban of await this.#values(names)) bans.set(ban.key, ban);
      if (names.length < PAGE) return [...bans.values()];
      // Those of one time are read twice; a whole page of them is as many as there can be.
      const last = page.at(-1) as string;
      from = last === from ? `(${last}` : last;
    }
  }

  async #values(all: readonly (string | undefined)[]): Promise<SharedBan[]> {
    const names = all.filter((name) => name !== undefined);
    if (names.length === 0) return [];
    const keys = names.map((name) => storeKey(this.#prefix, 'bans', name));
    const values = (await this.#ask(VALUES, keys, [])) as string[];
    return names
      .map((key, at) => {
        const [left, violations] = (values[at] ?? '').split(' ').map(Number);
        return { key, seconds: left ?? Number.NaN, violations: violations ?? Number.NaN };
      })
      .filter(isBan);
  }

  #hear(message: string): void {
    const said = parse(message);
    if (said === undefined || !isBan(said) || this.#isClosed) return;
    if (said.epoch === this.#known.epoch && said.version === this.#known.version + 1) {
      this.#known.version = said.version;
    } else if (said.epoch !== this.#known.epoch || said.version > this.#known.version) {
      // A ban is known before any was read: the next look must be able to lift it, as it is not the first.
      if (this.#known.epoch === '') this.#known = { epoch: said.epoch, version: -1 };
      this.#mustLook = true;
      this.#work();
    }
    const { key, seconds, violations, isLifted } = said;
    const isOwn = said.from === this.#node;
    if (!isOwn) this.counters.received += 1;
    // What is still to be told comes after it: a lift ends whatever was said, a ban outlives a lift.
    const waiting = this.#waiting.get(key);
    if (waiting === 'lift' || (waiting === 'ban' && isLifted)) return;
    this.#heard?.add(key);
    this.#listener.told({ key, seconds, violations, isLifted, isOwn });
  }

  /** The script's reply, within the deadline. Rejects with `ERR_LIMITER_STORE`, and a cause if the store said no. */
  #ask(text: string, keys: string[], args: string[]): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const answer = new Answer(reject);
      this.#deadlines.add(answer);
      this.#unanswered += 1;
      this.#client.eval(text, keys, args).then(
        (reply) => {
          this.#unanswered -= 1;
          if (answer.end()) resolve(reply);
        },
        (error) => {
          this.#unanswered -= 1;
          if (answer.end()) reject(storeError((error as Error).message, error));
        },
      );
    });
  }

  #failed(error: Error): void {
    this.#change('down', error);
    for (const { stop } of this.#attempts.splice(0)) stop(error);
  }

  #change(state: 'up' | 'down', reason?: Error): void {
    if (this.#state === state || this.#isClosed) return;
    this.#state = state;
    this.#listener.onState(state, reason);
  }

  #later(inSeconds: number): void {
    clearTimeout(this.#timer);
    if (this.#isClosed) return;
    const work = () => {
      this.#mustLook = true;
      this.#work();
    };
    this.#timer = detached(() => setTimeout(work, inSeconds * 1000));
    this.#timer.unref?.();
  }
}

/** A question, until it is answered or its time has run out. */
class Answer extends Pending {
  readonly #late: (error: Error) => void;

  constructor(late: (error: Error) => void) {
    super();
    this.#late = late;
  }

  override expire(): void {
    this.#late(storeError('it did not answer in time'));
  }
}

interface Connection {
  destroy?(): unknown;
  disconnect?(): unknown;
}

/** The client, but who duplicates it gets to know how the duplicate is ended, open or not. */
function duplicated(client: unknown, onDuplicate: (end: () => void) => void): unknown {
  if (typeof client !== 'object' || client === null) return client;
  return new Proxy(client, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name);
      if (typeof value !== 'function') return value;
      if (name !== 'duplicate') return value.bind(target);
      return (...args: unknown[]) => {
        const own = value.apply(target, args) as Connection;
        onDuplicate(() => end(own));
        return own;
      };
    },
  });
}

/** One that was never open, or has ended already, throws when it is ended. */
function end(own: Connection): void {
  try {
    if (own.destroy !== undefined) own.destroy();
    else own.disconnect?.();
  } catch {}
}

/** By which the store's time is told, whatever clock bans have. */
function seconds(): number {
  return performance.now() / 1000;
}
