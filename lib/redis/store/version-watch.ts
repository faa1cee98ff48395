// VersionWatch: follows changes that any node makes of what all have in common (version.ts), and makes those of this node.

import { detached } from '../../common/timers.js';
import type { StoreClient } from './client.js';
import type { Deadlines } from './deadlines.js';
import { evalInTime } from './eval-in-time.js';
import { closedError, invalidReplyError, storeError } from './replies.js';
import { startTimer, type Timer } from './timing.js';
import {
  CHANGE_VERSION,
  nameOf,
  OLDER,
  readVersion,
  SYNC_VERSION,
  type Version,
} from './version.js';

/** Seconds between two looks at the store: less than the second within which nodes follow. */
const LOOK_SECONDS = 0.75;
/** How often a change is made again because another node was faster. */
const MOST_TRIES = 10;

/** The part of a limiter that its watch needs. */
export interface VersionOwner {
  /** What is in force at this node. */
  readonly current: () => string;
  /** Adopts the content of another node. May throw: then it is adopted with a later look. */
  readonly adopt: (content: string) => void;
  /** The content of another node cannot be adopted. */
  readonly onFailure: (error: Error) => void;
}

export interface WatchContext {
  readonly client: StoreClient;
  readonly key: string;
  readonly deadlines: Deadlines;
  /** The name of the class, for errors. */
  readonly className: string;
  /** Whether the store is known not to answer. */
  readonly isDown: () => boolean;
  readonly owner: VersionOwner;
}

export class VersionWatch {
  readonly #context: WatchContext;
  /** The last version that this node has seen, whether it has adopted it or not. */
  #seen: Version | undefined;
  #hasLooked = false;
  /** Why the last version could not be adopted: it is reported once. */
  #failed: string | undefined;
  #timer: Timer | undefined;
  #isClosed = false;

  /** Looks at the store at once, and from then on regularly. */
  constructor(context: WatchContext) {
    this.#context = context;
    detached(() => this.#look());
  }

  /**
   * Makes what `contentOf` returns the content of all nodes. It gets the content in the store, or else that of this node. It
   * is called again if another node has made a change meanwhile, which this one has adopted then.
   * @throws (rejects with) `ERR_LIMITER_STORE`, or what `contentOf` throws
   */
  async change(contentOf: (current: string) => string): Promise<void> {
    const { className, owner } = this.#context;
    for (let tries = 0; tries < MOST_TRIES; tries += 1) {
      if (this.#isClosed) throw closedError(className);
      const own = owner.current();
      const content = contentOf(this.#seen?.content ?? own);
      const name = nameOf(content);
      const args = [this.#seen?.header ?? '', nameOf(own), name, content];
      const reply = await new Promise<string>((resolve, reject) => {
        this.#call(CHANGE_VERSION, args, resolve, reject);
      });
      const version = readVersion(reply);
      if (version === undefined) throw invalidReplyError();
      this.#adopt(version);
      if (version.name === name) return;
    }
    throw storeError('other processes change the same at the same time');
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
  }

  #look(): void {
    if (this.#context.isDown()) this.#lookLater();
    else this.#sync([this.#seen?.header ?? '']);
  }

  #sync(args: string[]): void {
    // Without a promise between the reply and the adoption: a check whose reply comes together with it must find the content.
    const answered = (reply: string) => {
      if (reply === OLDER && args.length === 1) {
        this.#sync([...args, this.#seen?.text ?? '']);
        return;
      }
      try {
        const version = readVersion(reply);
        if (version !== undefined && reply !== args[0]) this.#found(version);
        this.#hasLooked = true;
      } catch (error) {
        this.#report(error as Error);
      }
      this.#lookLater();
    };
    // The limiter reports failures of the store.
    this.#call(SYNC_VERSION, args, answered, () => this.#lookLater());
  }

  #lookLater(): void {
    if (!this.#isClosed) this.#timer = startTimer(() => this.#look(), LOOK_SECONDS * 1000);
  }

  /**
   * The store has this version. A node that starts with what was never the current content keeps it until the next change, as
   * in a deployment of new options.
   */
  #found(version: Version): void {
    if (this.#isClosed || version.number < (this.#seen?.number ?? 0)) return;
    const isKnown = version.former.includes(nameOf(this.#context.owner.current()));
    if (this.#hasLooked || this.#seen !== undefined || isKnown) this.#adopt(version);
    else this.#seen = version;
  }

  #adopt(version: Version): void {
    const { current, adopt } = this.#context.owner;
    if (version.name !== nameOf(current())) adopt(version.content);
    this.#seen = version;
  }

  #report(error: Error): void {
    const { message } = error;
    if (message === this.#failed) return;
    this.#failed = message;
    this.#context.owner.onFailure(error);
  }

  /** Calls one of the functions, within the deadline. */
  #call(
    script: string,
    args: string[],
    answered: (reply: string) => void,
    failed: (error: Error) => void,
  ): void {
    const read = (reply: unknown) => answered(String(reply));
    evalInTime(this.#context, script, [this.#context.key], args, read, failed);
  }
}
