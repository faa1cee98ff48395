// The bans in the store: reads and changes them by scripts, each with a deadline. Knows ids, seconds and violations.

import { KeyMap } from '../../tables/key-map.js';
import type { StoreClient } from '../store/client.js';
import { Deadlines, PendingReply } from '../store/deadlines.js';
import { storeKey } from '../store/keys.js';
import { messageOf, storeError } from '../store/replies.js';
import { LATE_SECONDS, nowSeconds } from '../store/timing.js';
import { BAN, INDEX_PAGE, LIFT, MAX_BAN_SECONDS, parseId, VALUES, VERSION } from './ban-scripts.js';
import { isValidBan } from './local-bans.js';
import type { SharedBan } from './shared-ban.js';

/** The number of the last change, and the epoch in which it was counted. */
export interface Version {
  readonly epoch: string;
  version: number;
}

/** Bans read by one script. */
const PAGE_SIZE = 500;

export class StoredBans {
  /** Changes sent to the store. */
  sent = 0;
  /** The node's random id, by which it recognizes its own messages. */
  readonly nodeId = Math.random().toString(36).slice(2);
  readonly #client: StoreClient;
  readonly #prefix: string;
  readonly #indexKey: string;
  readonly #versionKey: string;
  readonly #deadlineSeconds: number;
  readonly #deadlines: Deadlines;
  /** The store's time minus this process's. */
  #offset = 0;
  #inFlight = 0;

  constructor(client: StoreClient, prefix: string, deadlineSeconds: number) {
    this.#client = client;
    this.#prefix = prefix;
    this.#indexKey = `${prefix}:{bans}`;
    this.#versionKey = `${prefix}:{bans}#version`;
    this.#deadlineSeconds = deadlineSeconds;
    this.#deadlines = new Deadlines(deadlineSeconds);
  }

  /** The channel on which changes are published. */
  get channel(): string {
    return this.#indexKey;
  }

  /** Calls without a reply, whether their deadline has passed or not. */
  get inFlight(): number {
    return this.#inFlight;
  }

  /** Merges a ban into the store's, or lifts it if `ban` is undefined. */
  async change(key: string, ban: SharedBan | undefined): Promise<void> {
    const keys = [this.#indexKey, this.#versionKey, storeKey(this.#prefix, 'bans', key)];
    const newEpoch = Math.random().toString(36).slice(2);
    const latest = nowSeconds() + this.#offset + this.#deadlineSeconds + LATE_SECONDS;
    const args = [JSON.stringify(key), newEpoch, this.nodeId, String(latest)];
    if (ban !== undefined) {
      args.push(String(Math.min(ban.seconds, MAX_BAN_SECONDS)), String(ban.violations));
    }
    this.sent += 1;
    const script = ban === undefined ? LIFT : BAN;
    const reply = await this.#run(script, keys, [...args, this.channel]);
    if (reply === 'late') throw storeError('a change reached the store too late');
  }

  /** Reads the version, and the store's time. */
  async version(): Promise<Version> {
    const reply = await this.#run(VERSION, [this.#indexKey, this.#versionKey], []);
    const [epoch, version, time] = reply as [string, string, string];
    this.#offset = Number(time) - nowSeconds();
    return { epoch, version: Number(version) };
  }

  /** Reads all bans, page by page. */
  async all(): Promise<SharedBan[]> {
    const bans = new KeyMap<SharedBan>();
    for (let from = String(nowSeconds() + this.#offset); ; ) {
      const page = await this.#run(INDEX_PAGE, [this.#indexKey], [from, String(PAGE_SIZE)]);
      const entries = page as string[];
      const ids = entries.filter((_, at) => at % 2 === 0).map(parseId);
      for (const ban of await this.#values(ids)) bans.set(ban.key, ban);
      if (ids.length < PAGE_SIZE) return [...bans.values()];
      // The next page starts with the ids of the same time again. A whole page of one time is not read further.
      const last = entries.at(-1) as string;
      from = last === from ? `(${last}` : last;
    }
  }

  async #values(all: readonly (string | undefined)[]): Promise<SharedBan[]> {
    const ids = all.filter((id) => id !== undefined);
    if (ids.length === 0) return [];
    const keys = ids.map((id) => storeKey(this.#prefix, 'bans', id));
    const values = (await this.#run(VALUES, keys, [])) as string[];
    return ids
      .map((key, at) => {
        const [seconds, violations] = (values[at] ?? '').split(' ').map(Number);
        return { key, seconds: seconds ?? Number.NaN, violations: violations ?? Number.NaN };
      })
      .filter(isValidBan);
  }

  /** Rejects with `ERR_LIMITER_STORE` if there is no reply in time; with a cause if the store reports an error. */
  #run(script: string, keys: string[], args: string[]): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const pending = new PendingReply(reject);
      this.#deadlines.add(pending);
      this.#inFlight += 1;
      this.#client.eval(script, keys, args).then(
        (reply) => {
          this.#inFlight -= 1;
          if (pending.end()) resolve(reply);
        },
        (error) => {
          this.#inFlight -= 1;
          if (pending.end()) reject(storeError(messageOf(error), error));
        },
      );
    });
  }
}
