// The bans in the store: reads and changes them by scripts, each with a deadline, and keeps the fleet's clock. Knows ids
// and states.

import { createHash } from 'node:crypto';
import { KeyMap } from '../../tables/key-map.js';
import type { StoreClient } from '../store/client.js';
import { Deadlines, PendingReply } from '../store/deadlines.js';
import { invalidReplyError, messageOf, storeError } from '../store/replies.js';
import { nowWithPauses } from '../store/timing.js';
import { CHANGE, PAGE, PUBLISH_SHARDED, parseId, VERSION } from './ban-scripts.js';
import { type BanState, formatState, parseState } from './ban-state.js';
import { FleetClock } from './fleet-clock.js';

/** The number of the last change, and the epoch in which it was counted. */
export interface Version {
  readonly epoch: string;
  version: number;
}

export interface FoundVersion extends Version {
  /** Whether this node is to tell what the store has lost. */
  readonly isTeller: boolean;
}

/** A state to merge into the store's. */
export interface BanReport {
  readonly key: string;
  readonly state: BanState;
  /** Violations to add to the store's number. */
  readonly more: number;
}

/** What a node asks for: to tell the store what it has lost while no other node does, or to end that. */
export type Telling = 'take' | 'free' | '';

/** Attempts to correct the fleet's clock until its time is taken as it is. */
const MAX_CORRECTIONS = 4;
/** States read by one script. */
const PAGE_SIZE = 500;

/** Scripts that are long, and called often; with the SHA that the store knows them by. */
const SHAS = new Map(
  [CHANGE, PAGE].map((text) => [text, createHash('sha1').update(text).digest('hex')]),
);

export class StoredBans {
  readonly clock = new FleetClock();
  /** Changes sent to the store. */
  sent = 0;
  /** The node's random id, by which it recognizes its own messages. */
  readonly nodeId = Math.random().toString(36).slice(2);
  /** The channel on which changes are published. */
  readonly channel: string;
  /** Whether this process needs changes published to all servers of a cluster. */
  needsBroadcast = false;
  readonly #client: StoreClient;
  /** The index, the hash, and in a cluster the key of processes that need a broadcast. */
  readonly #keys: readonly string[];
  readonly #deadlines: Deadlines;
  readonly #onCorrection: (seconds: number) => void;
  #inFlight = 0;

  /** `onCorrection`: called with what to add to all times that were taken before the first reading of the clock. */
  constructor(
    client: StoreClient,
    prefix: string,
    deadlineSeconds: number,
    onCorrection: (seconds: number) => void,
  ) {
    this.#client = client;
    const key = `${prefix}:{bans}`;
    this.channel = key;
    this.#keys = [key, `${key}#peers`, ...(client.isCluster ? [`${key}#broadcast`] : [])];
    this.#deadlines = new Deadlines(deadlineSeconds);
    this.#onCorrection = onCorrection;
  }

  /** Calls without a reply, whether their deadline has passed or not. */
  get inFlight(): number {
    return this.#inFlight;
  }

  /** Merges states into the store's. `known`: the last change that this node knows. */
  async change(reports: readonly BanReport[], known: Version): Promise<void> {
    const values = reports.flatMap(({ key, state, more }) => {
      return [JSON.stringify(key), String(more), formatState(state)];
    });
    this.sent += reports.length;
    await this.#run(CHANGE, [...this.#beginning(known), this.nodeId, this.channel, ...values]);
  }

  /** Reads the version and the fleet's clock, and corrects it if the store's clock was set forward. */
  async version(known: Version, telling: Telling = ''): Promise<FoundVersion> {
    let ahead = 0;
    let { shift: knownShift } = this.clock;
    for (let tries = 1; ; tries += 1) {
      const askedAt = nowWithPauses();
      const beginning = this.#beginning(known, knownShift);
      const reply = await this.#run(VERSION, [
        ...[...beginning, telling, this.nodeId, String(ahead)],
        this.needsBroadcast ? 'broadcast' : '',
      ]);
      if (!Array.isArray(reply) || reply.length !== 5) throw invalidReplyError();
      const [epoch, version, time, shift, isTeller] = reply.map(String) as [
        ...[string, string, string, string],
        string,
      ];
      if (![version, time].every((text) => Number.isFinite(Number(text))))
        throw invalidReplyError();
      // Not 0 if the store's clock was set forward; it may be set again meanwhile.
      const jump = this.clock.jumpOf(Number(time));
      if (jump === 0 || tries === MAX_CORRECTIONS) {
        const correction = this.clock.read(Number(time), shift, askedAt);
        if (correction !== 0) this.#onCorrection(correction);
        return { epoch, version: Number(version), isTeller: isTeller === '1' };
      }
      ahead = jump;
      knownShift = shift;
    }
  }

  /** Reads all states, page by page. */
  async all(): Promise<KeyMap<BanState>> {
    const states = new KeyMap<BanState>();
    for (let from = String(this.clock.now()); ; ) {
      const reply = await this.#run(PAGE, [from, String(PAGE_SIZE)]);
      if (!Array.isArray(reply)) throw invalidReplyError();
      const page = reply.map(String);
      for (let at = 0; at < page.length; at += 3) {
        const key = parseId(page[at] as string);
        const state = parseState(page[at + 2]);
        if (key !== undefined && state !== undefined) states.set(key, state);
      }
      if (page.length < 3 * PAGE_SIZE) return states;
      // The next page starts with the ids of the same time again. A whole page of one time is not read further.
      const last = page.at(-2) as string;
      from = last === from ? `(${last}` : last;
    }
  }

  /** Publishes a text on the sharded channel, not to all servers of a cluster. */
  async publishSharded(text: string): Promise<void> {
    await this.#run(PUBLISH_SHARDED, [this.channel, text]);
  }

  #beginning({ epoch, version }: Version, shift = this.clock.shift): string[] {
    const newEpoch = Math.random().toString(36).slice(2);
    return [String(this.clock.least()), newEpoch, epoch, String(version), shift];
  }

  /** Rejects with `ERR_LIMITER_STORE` if there is no reply in time; with a cause if the store reports an error. */
  #run(script: string, args: string[]): Promise<unknown> {
    return new Promise((resolve, reject) => {
      // If this process was blocked, the reply may be there soon.
      const wait = (): PendingReply => {
        const reply = new PendingReply((error, wasBlocked) => {
          if (wasBlocked) pending = wait();
          else reject(error);
        });
        this.#deadlines.add(reply);
        return reply;
      };
      let pending = wait();
      this.#inFlight += 1;
      this.#call(script, args).then(
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

  async #call(script: string, args: string[]): Promise<unknown> {
    const sha = SHAS.get(script);
    const keys = [...this.#keys];
    if (sha === undefined) return this.#client.eval(script, keys, args);
    try {
      return await this.#client.evalSha(sha, keys, args);
    } catch (error) {
      if (!messageOf(error).startsWith('NOSCRIPT')) throw error;
      return this.#client.eval(script, keys, args);
    }
  }
}
