// RuleWorld: nodes of a SharedRuleLimiter and a simulated store, in virtual time. Each node has a client of its own; what
// one publishes about bans reaches all others.

import { SharedRuleLimiter, type SharedRuleLimiterOptions } from '../../../lib/redis/index.js';
import type { RuleVerdict } from '../../../lib/rules/types.js';
import { RuleServer } from './rule-server.js';
import { VirtualTime } from './virtual-time.js';

export type RuleOptions = Omit<SharedRuleLimiterOptions, 'client'>;

/** Seconds that an answer takes at most in this world, unless a test delays it. */
const SOON = 0.0005;

/** The store answers at once, unless a field says otherwise. */
export class RuleWorld {
  readonly time = new VirtualTime();
  readonly server: RuleServer;
  readonly nodes: SharedRuleLimiter[];
  /** Whether the store refuses all calls. */
  isAway = false;
  /** Whether calls are held: neither answered nor refused. */
  isSilent = false;
  /** Whether replies of scripts of rules are lost after the script has run. */
  losesReplies = false;
  /** Carries a call or a reply of a node, and may lose or delay it. Default: at once. */
  carry: ((act: () => void, lose: (error: Error) => void) => void) | undefined;
  readonly #options: RuleOptions;
  readonly #subscribers = new Set<(message: string) => void>();
  #held: (() => void)[] = [];

  constructor(
    nodes: number,
    options: RuleOptions,
    storeClock?: (time: VirtualTime) => () => number,
  ) {
    this.time.install();
    this.#options = options;
    const clock = storeClock?.(this.time) ?? (() => this.time.now);
    this.server = new RuleServer(clock, options, (message) => {
      for (const receive of this.#subscribers) {
        this.#carry(
          () => receive(message),
          () => {},
        );
      }
    });
    this.nodes = Array.from({ length: nodes }, () => this.start());
  }

  /** Starts one more node. */
  start(options: Partial<RuleOptions> = {}): SharedRuleLimiter {
    const nothing = () => {};
    const call = (act: (text: string, keys: string[], args: string[]) => unknown) => {
      return (text: string, { keys, arguments: args }: { keys: string[]; arguments: string[] }) =>
        this.#roundTrip(() => act(text, keys, args));
    };
    const subscriber = {
      ...{ on: nothing, off: nothing, connect: async () => {}, eval: nothing, evalSha: nothing },
      subscribe: async (_: string, receive: (message: string) => void) => {
        this.#subscribers.add(receive);
      },
      destroy: nothing,
    };
    const client = {
      ...{ on: nothing, off: nothing, connect: nothing, duplicate: () => subscriber },
      eval: call((text, keys, args) => this.#run(() => this.server.eval(text, keys, args))),
      evalSha: call((sha, keys, args) => this.#run(() => this.server.evalSha(sha, keys, args))),
    };
    // The native engine belongs to the built package, whose classes are other ones.
    return new SharedRuleLimiter({
      engine: 'js',
      client,
      clock: () => this.time.now,
      ...this.#options,
      ...options,
    });
  }

  /** Lets what is in flight arrive. */
  async settle(): Promise<void> {
    for (let n = 0; n < 8; n += 1) await this.time.run(SOON / 8);
  }

  /** Makes a check, and returns its verdict when it is there. */
  async check(
    node: SharedRuleLimiter,
    ...check: Parameters<SharedRuleLimiter['checkAsync']>
  ): Promise<RuleVerdict> {
    let verdict: RuleVerdict | undefined;
    let error: unknown;
    node.checkAsync(...check).then(
      (value) => {
        verdict = value;
      },
      (reason) => {
        error = reason;
      },
    );
    for (let n = 0; n < 10_000 && verdict === undefined && error === undefined; n += 1) {
      await this.time.run(SOON / 8);
    }
    if (verdict === undefined) throw error ?? new Error('no verdict');
    return verdict;
  }

  /** Ends a silence: held calls go on. */
  endSilence(): void {
    this.isSilent = false;
    for (const resume of this.#held.splice(0)) resume();
  }

  /** Runs a script, and loses its reply if it is one of rules. */
  #run(script: () => unknown): unknown {
    const { runs } = this.server;
    const reply = script();
    if (this.losesReplies && this.server.runs > runs) throw new Error('Socket closed');
    return reply;
  }

  #carry(act: () => void, lose: (error: Error) => void): void {
    if (this.carry === undefined) act();
    else this.carry(act, lose);
  }

  async #roundTrip(act: () => unknown): Promise<unknown> {
    if (this.isSilent) await new Promise<void>((resume) => this.#held.push(resume));
    return new Promise((resolve, reject) => {
      this.#carry(() => {
        if (this.isAway) {
          reject(new Error('Socket closed unexpectedly'));
          return;
        }
        try {
          const reply = act();
          this.#carry(() => resolve(reply), reject);
        } catch (error) {
          this.#carry(() => reject(error as Error), reject);
        }
      }, reject);
    });
  }
}
