// LimitWatch: follows changes of a limit that any node makes, and makes those of this node.

import { detached } from '../../common/timers.js';
import type { StoreClient } from '../store/client.js';
import { type Deadlines, PendingReply } from '../store/deadlines.js';
import {
  CHANGE_LIMIT,
  type ChangeableLimit,
  type LimitChange,
  type LimitVersion,
  limitText,
  readLimitVersion,
  SYNC_LIMIT,
} from '../store/limit-version.js';
import { closedError, invalidReplyError, messageOf, storeError } from '../store/replies.js';
import { startTimer, type Timer } from '../store/timing.js';

/** Seconds between two looks at the store: less than the second within which nodes follow. */
const LOOK_SECONDS = 0.75;

export interface WatchContext {
  readonly client: StoreClient;
  readonly key: string;
  readonly deadlines: Deadlines;
  /** The name of the class, for errors. */
  readonly owner: string;
  /** The limit in force at this node. */
  readonly limit: ChangeableLimit;
  /** Whether the store is known not to answer. */
  readonly isDown: () => boolean;
  readonly onChange: (limit: ChangeableLimit) => void;
}

export class LimitWatch {
  readonly #context: WatchContext;
  /** The last version that this node has seen, whether it has adopted it or not. */
  #seen: LimitVersion | undefined;
  #hasLooked = false;
  #timer: Timer | undefined;
  #isClosed = false;

  /** Looks at the store at once, and from then on regularly. */
  constructor(context: WatchContext) {
    this.#context = context;
    detached(() => this.#look());
  }

  /** Changes the current limit of all nodes. @throws (rejects with) `ERR_LIMITER_STORE` */
  change(change: LimitChange): Promise<void> {
    if (this.#isClosed) return Promise.reject(closedError(this.#context.owner));
    const { client, key, deadlines } = this.#context;
    return new Promise((resolve, reject) => {
      const pending = new PendingReply(reject);
      deadlines.add(pending);
      const texts = [limitText(change), limitText(this.#context.limit), this.#seen?.text ?? ''];
      client.eval(CHANGE_LIMIT, [key], texts).then(
        (reply) => {
          const version = readLimitVersion(reply);
          if (version !== undefined) this.#adopt(version);
          if (!pending.end()) return;
          if (version === undefined) reject(invalidReplyError());
          else resolve();
        },
        (error) => {
          if (pending.end()) reject(storeError(messageOf(error), error));
        },
      );
    });
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
  }

  #look(): void {
    if (this.#context.isDown()) {
      this.#lookLater();
      return;
    }
    const { client, key, deadlines } = this.#context;
    // A reply that never comes must not end the looks.
    const pending = new PendingReply(() => this.#lookLater());
    const ended = () => {
      if (pending.end()) this.#lookLater();
    };
    deadlines.add(pending);
    client.eval(SYNC_LIMIT, [key], [this.#seen?.text ?? '']).then((reply) => {
      const version = readLimitVersion(reply);
      if (version !== undefined) this.#found(version);
      this.#hasLooked = true;
      ended();
    }, ended);
  }

  #lookLater(): void {
    if (!this.#isClosed) this.#timer = startTimer(() => this.#look(), LOOK_SECONDS * 1000);
  }

  /**
   * The store has this version. A node that starts with a limit that was never the current one keeps it until the next
   * change, as in a deployment of new options.
   */
  #found(version: LimitVersion): void {
    if (this.#isClosed || version.text === this.#seen?.text) return;
    if (version.number < (this.#seen?.number ?? 0)) return;
    const isKnown = version.former.includes(limitText(this.#context.limit));
    if (this.#hasLooked || this.#seen !== undefined || isKnown) this.#adopt(version);
    else this.#seen = version;
  }

  #adopt(version: LimitVersion): void {
    this.#seen = version;
    const { limit, onChange } = this.#context;
    if (limitText(version.limit) !== limitText(limit)) onChange(version.limit);
  }
}
