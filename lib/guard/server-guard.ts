// The part of a guard that all kinds of server share: it admits or refuses connections, keeps the guarded ones, counts
// offences by address, and removes its hooks when it is closed. It reads and writes no sockets.

import { connectionKey } from '../address/connection-key.js';
import { tryCall } from '../common/callbacks.js';
import { isPromise, type MaybePromise, mapMaybePromise } from '../common/maybe-promise.js';
import { type CheckResult, RateLimitAction } from '../common/types.js';
import { type AsyncLimiter, checkAsync, isAsyncLimiter } from '../limiters/async-limiter.js';
import { forget } from '../limiters/stalled.js';
import {
  type AnyLimiter,
  banSecondsLeft,
  checkAny,
  isBanned,
  recordOffence,
} from '../limiters/verdict.js';
import type { AnyRulePeer } from '../rules/any-rules.js';
import type { RulePeer } from '../rules/rule-peer.js';
import type { RuleVerdict } from '../rules/types.js';
import { REFUSAL_REASONS } from '../rules/verdicts.js';
import {
  type Client,
  type ClientAddress,
  type ConnectionContext,
  clientAddress,
} from './connection-context.js';
import { type ConnectionOutcome, GuardCounters, type GuardStats } from './guard-stats.js';
import { OpenConnections } from './open-connections.js';
import type { AddressSettings, ConnectionSettings, ReportSettings } from './settings.js';
import {
  type Answer,
  answerOf,
  type ConnectionReason,
  type Decision,
  type MessageReason,
  PASSED,
  ruleAnswer,
  UNKNOWN_DELAY,
} from './verdicts.js';

/** A client whose connection passed, until it is guarded. */
export interface Admission {
  readonly client: Client;
  readonly decision: Decision;
}

/** The decision on a connection, and the key that was refused or that of the client. */
export interface ConnectionDecision {
  readonly decision: Decision;
  readonly key: string;
}

/** Seconds to wait if there are too many connections. It is unknown when one of them will close. */
const CONCURRENCY_DELAY = 10;
const TOO_MANY = refusal('concurrency', answerOf([RateLimitAction.DELAY, CONCURRENCY_DELAY]));

/** A key, a limiter or `trustedProxies` threw, so the connection could not be checked. */
export const CHECK_FAILED: Decision = refusal('error', UNKNOWN_DELAY);

/** Limits connections: bans, how many are open at once, and how often an address connects. */
class ConnectionLimiter {
  readonly #settings: ConnectionSettings;
  readonly #open: OpenConnections;

  constructor(settings: ConnectionSettings) {
    this.#settings = settings;
    this.#open = new OpenConnections(settings.open);
  }

  /** Counts a connection as open until `remove`. */
  add(client: Client): void {
    this.#open.add(client);
  }

  /** Removes a closed connection. Its address stays in the limiter; the key of a client without address does not. */
  remove(client: ClientAddress): void {
    this.#open.remove(client);
    const { limiter } = this.#settings;
    if (client.isTransient && limiter !== undefined) forget(limiter, client.key);
  }

  /**
   * Decides on a connection. What changes nothing is checked first: a refused connection is charged nothing by limits behind
   * the refusing one. @throws (or rejects with) what a limiter throws
   */
  check(client: Client): MaybePromise<ConnectionDecision> {
    const { key } = client;
    const { banLimiters, limiter, limits } = this.#settings;
    // An allow list wins over all other limits.
    const byRules = (verdict: RuleVerdict | undefined) => this.#byRules(client, verdict);
    if (limits?.allows(client.keys)) {
      return mapMaybePromise(limits.connect(client.keys), byRules);
    }
    const ban = banLimiters.find((limiter) => isBanned(limiter, key));
    if (ban !== undefined) {
      const left = banSecondsLeft(ban, key);
      return { decision: refusal('ban', answerOf([RateLimitAction.DISCONNECT, left])), key };
    }
    if (!this.#open.hasRoom(client)) {
      return mapMaybePromise(limits?.peekConnect(client.keys), (verdict) => {
        const found = byRules(verdict);
        // A ban and a deny list last longer than the connections.
        const lasts = found.decision.action === RateLimitAction.DISCONNECT;
        return lasts ? found : { decision: TOO_MANY, key };
      });
    }
    return mapMaybePromise(limits?.connect(client.keys), (verdict) => {
      const found = byRules(verdict);
      return found.decision.did !== 'passed' || limiter === undefined
        ? found
        : this.#byLimiter(limiter, found, key);
    });
  }

  #byLimiter(
    limiter: AnyLimiter | AsyncLimiter,
    found: ConnectionDecision,
    key: string,
  ): MaybePromise<ConnectionDecision> {
    const result = isAsyncLimiter(limiter) ? checkAsync(limiter, key) : checkAny(limiter, key);
    return mapMaybePromise<CheckResult, ConnectionDecision>(result, (verdict) =>
      verdict[0] === RateLimitAction.ALLOW
        ? found
        : { decision: refusal('rate', answerOf(verdict)), key },
    );
  }

  /** Decides on a connection that has passed, by the keys that it has now. @throws what the RuleLimiter throws */
  checkMore(
    { client: before, decision }: Admission,
    client: Client,
  ): MaybePromise<ConnectionDecision> {
    const { limits } = this.#settings;
    if (limits?.hasKeys !== true) return { decision, key: client.key };
    const verdict = limits.connectWithMore(before.keys, client.keys);
    return mapMaybePromise(verdict, (verdict) => this.#byRules(client, verdict));
  }

  #byRules({ key, keys }: Client, verdict: RuleVerdict | undefined): ConnectionDecision {
    if (verdict === undefined) return { decision: PASSED, key };
    const { outcome, scope } = verdict;
    const answer = ruleAnswer(verdict);
    if (outcome === 'allow') {
      return { decision: { ...answer, did: 'passed', reason: undefined }, key };
    }
    const refused = this.#settings.limits?.keyIn(scope, keys) ?? key;
    return { decision: refusal(REFUSAL_REASONS[outcome], answer), key: refused };
  }
}

function refusal(reason: ConnectionReason, answer: Answer): Decision {
  return { ...answer, did: 'refused', reason };
}

/** The part of a guarded connection that the guard of its server uses. */
interface Guarded {
  /** Undefined without a RuleLimiter. */
  readonly peer: AnyRulePeer | undefined;
  expel(reason: MessageReason, words?: string): boolean;
  release(): void;
}

/** A TCP connection. */
interface Closable {
  once(event: 'close', listener: () => void): unknown;
}

/** `Verdict` is what `onVerdict` gets, `Source` is what `onError` gets besides the error. */
export abstract class ServerGuard<Socket extends object, Verdict, Source> {
  readonly #counters = new GuardCounters();
  readonly #limiter: ConnectionLimiter;
  readonly #settings: AddressSettings & ReportSettings<Verdict, Source>;
  readonly #sockets = new Map<Socket, Guarded>();
  #hooks: readonly (() => void)[] = [];
  #isClosed = false;

  protected constructor(settings: AddressSettings & ReportSettings<Verdict, Source>) {
    this.#limiter = new ConnectionLimiter(settings.connections);
    this.#settings = settings;
  }

  get connections(): number {
    return this.#sockets.size;
  }

  getStats(): GuardStats {
    return this.#counters.stats(this.connections);
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  peerOf(socket: Socket): RulePeer | undefined {
    // A SharedRulePeer is not one, but has its methods.
    return this.#sockets.get(socket)?.peer as RulePeer | undefined;
  }

  expel(socket: Socket, words?: string): boolean {
    return this.#sockets.get(socket)?.expel('expelled', words) ?? false;
  }

  close(): void {
    this.#isClosed = true;
    for (const removeHook of this.#hooks) removeHook();
    for (const guarded of this.#sockets.values()) guarded.release();
    this.#sockets.clear();
  }

  /** Counts a decision on a connection and passes it to `onVerdict`, with the fields of the verdict that say whose it is. */
  protected report(
    outcome: ConnectionOutcome,
    whose: Omit<Verdict, keyof Decision | 'kind' | 'data'>,
    source: Source,
  ): void {
    this.#counters.countConnection(outcome);
    const { onVerdict, onError } = this.#settings;
    if (onVerdict === undefined) return;
    const verdict = { kind: 'connection', data: undefined, ...whose, ...outcome } as Verdict;
    tryCall(
      () => onVerdict(verdict),
      (error) => onError(error, source),
    );
  }

  /** Sets the functions that remove the guard's hooks from the server; `close` calls them. */
  protected setHooks(hooks: readonly (() => void)[]): void {
    this.#hooks = hooks;
  }

  /**
   * The client with an address. `socket`: what has a key of its own if there is no address. `source`: what the option `keys`
   * gets; without it, it is not called.
   * @throws what `keys` throws; `ERR_LIMITER_KEY` for a result that is no keys
   */
  protected clientOf(address: string | undefined, socket: object, source?: object): Client {
    const { subnets, connections } = this.#settings;
    const client = clientAddress(address, subnets, socket);
    return { ...client, keys: connections.limits?.keysOf(client, source) ?? {} };
  }

  /**
   * Decides on a connection. If it passes, it counts as open until its TCP connection closes; so does one that a limiter
   * has not answered yet. @throws (or rejects with) what a limiter throws
   */
  protected admit(client: Client, tcp: Closable): MaybePromise<ConnectionDecision> {
    const found = this.#limiter.check(client);
    if (!isPromise(found)) {
      if (found.decision.did === 'passed') this.#count(client, tcp);
      return found;
    }
    const remove = this.#count(client, tcp);
    return found.then(
      (found) => {
        if (found.decision.did !== 'passed') remove();
        return found;
      },
      (error) => {
        remove();
        throw error;
      },
    );
  }

  /**
   * Decides again on a connection that has passed `admit`, when the option `keys` has been called.
   * @throws what the RuleLimiter throws
   */
  protected admitMore(before: Admission, client: Client): MaybePromise<ConnectionDecision> {
    return this.#limiter.checkMore(before, client);
  }

  /** Returns a function that ends the count before the TCP connection closes. */
  #count(client: Client, tcp: Closable): () => void {
    let isCounted = true;
    const remove = () => {
      if (isCounted) this.#limiter.remove(client);
      isCounted = false;
    };
    this.#limiter.add(client);
    tcp.once('close', remove);
    return remove;
  }

  /**
   * Guards a connection. False if the user's key function throws: the connection would have no limits, so the caller
   * must close it.
   */
  protected guard(
    socket: Socket,
    client: Client,
    reportError: (error: unknown) => void,
    make: (context: ConnectionContext) => Guarded,
  ): boolean {
    const context: ConnectionContext = {
      key: connectionKey(socket),
      client,
      counters: this.#counters,
      remove: () => this.#sockets.delete(socket),
      countOffence: () => tryCall(() => this.#countOffence(client), reportError),
      reportError,
    };
    const guarded = tryCall(() => make(context), reportError);
    if (guarded !== undefined) this.#sockets.set(socket, guarded);
    return guarded !== undefined;
  }

  #countOffence({ key, isTransient }: ClientAddress): void {
    const { offenders } = this.#settings;
    if (offenders !== undefined && !isTransient) recordOffence(offenders, key);
  }
}
