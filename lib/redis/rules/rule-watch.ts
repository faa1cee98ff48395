// RuleWatch: follows changes of the rules that any node makes, and makes those of this node.

import { detached } from '../../common/timers.js';
import type { StoreClient } from '../store/client.js';
import { type Deadlines, PendingReply } from '../store/deadlines.js';
import { closedError, invalidReplyError, messageOf, storeError } from '../store/replies.js';
import { startTimer, type Timer } from '../store/timing.js';
import {
  CHANGE_RULES,
  nameOfRules,
  OLDER,
  type RuleVersion,
  readRuleVersion,
  SYNC_RULES,
} from './rule-version.js';

/** Seconds between two looks at the store: less than the second within which nodes follow. */
const LOOK_SECONDS = 0.75;
/** How often a change is made again because another node was faster. */
const MOST_TRIES = 10;

/** The part of a limiter that its watch needs. */
export interface RulesOwner {
  /** The rules of this node as JSON. */
  readonly currentRules: () => string;
  /** Adopts the rules of another node. May throw: then they are adopted with a later look. */
  readonly adopt: (content: string) => void;
  /** The rules of another node cannot be adopted. */
  readonly onFailure: (error: Error) => void;
}

export interface RuleWatchContext {
  readonly client: StoreClient;
  readonly key: string;
  readonly deadlines: Deadlines;
  /** The name of the class, for errors. */
  readonly className: string;
  /** Whether the store is known not to answer. */
  readonly isDown: () => boolean;
  readonly owner: RulesOwner;
}

export class RuleWatch {
  readonly #context: RuleWatchContext;
  /** The last version that this node has seen, whether it has adopted it or not. */
  #seen: RuleVersion | undefined;
  #hasLooked = false;
  /** The name of the version that could not be adopted: it is reported once. */
  #failed: string | undefined;
  #timer: Timer | undefined;
  #isClosed = false;

  /** Looks at the store at once, and from then on regularly. */
  constructor(context: RuleWatchContext) {
    this.#context = context;
    detached(() => this.#look());
  }

  /**
   * Makes the rules that `contentOf` returns those of all nodes. It is called again if another node has made a change
   * meanwhile, which this one has adopted then. @throws (rejects with) `ERR_LIMITER_STORE`, or what `contentOf` throws
   */
  async change(contentOf: () => string): Promise<void> {
    const { className, owner } = this.#context;
    for (let tries = 0; tries < MOST_TRIES; tries += 1) {
      if (this.#isClosed) throw closedError(className);
      const content = contentOf();
      const name = nameOfRules(content);
      const before = nameOfRules(owner.currentRules());
      const args = [this.#seen?.header ?? '', before, name, content];
      const version = readRuleVersion(await this.#call(CHANGE_RULES, args));
      if (version === undefined) throw invalidReplyError();
      this.#adopt(version);
      if (version.name === name) return;
    }
    throw storeError('other processes change the rules at the same time');
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
  }

  async #look(): Promise<void> {
    try {
      if (!this.#context.isDown()) await this.#sync();
    } catch (error) {
      this.#report(error as Error);
    }
    if (!this.#isClosed) this.#timer = startTimer(() => this.#look(), LOOK_SECONDS * 1000);
  }

  async #sync(): Promise<void> {
    const { header = '', text = '' } = this.#seen ?? {};
    let reply: string;
    try {
      reply = await this.#call(SYNC_RULES, [header]);
      if (reply === OLDER) reply = await this.#call(SYNC_RULES, [header, text]);
    } catch {
      // The limiter reports failures of the store.
      return;
    }
    const version = readRuleVersion(reply);
    if (version !== undefined && reply !== header) this.#found(version);
    this.#hasLooked = true;
  }

  /**
   * The store has this version. A node that starts with rules that were never the current ones keeps them until the next
   * change, as in a deployment of new options.
   */
  #found(version: RuleVersion): void {
    if (this.#isClosed || version.number < (this.#seen?.number ?? 0)) return;
    const isKnown = version.former.includes(nameOfRules(this.#context.owner.currentRules()));
    if (this.#hasLooked || this.#seen !== undefined || isKnown) this.#adopt(version);
    else this.#seen = version;
  }

  #adopt(version: RuleVersion): void {
    const { currentRules, adopt } = this.#context.owner;
    if (version.name !== nameOfRules(currentRules())) adopt(version.content);
    this.#seen = version;
  }

  #report(error: Error): void {
    const { message } = error;
    if (message === this.#failed) return;
    this.#failed = message;
    this.#context.owner.onFailure(error);
  }

  /** @throws (rejects with) `ERR_LIMITER_STORE` */
  #call(script: string, args: string[]): Promise<string> {
    const { client, key, deadlines } = this.#context;
    return new Promise((resolve, reject) => {
      const pending = new PendingReply(reject);
      deadlines.add(pending);
      client.eval(script, [key], args).then(
        (reply) => {
          if (pending.end()) resolve(String(reply));
        },
        (error) => {
          if (pending.end()) reject(storeError(messageOf(error), error));
        },
      );
    });
  }
}
