// The part of a guard that all kinds of server share: it admits or refuses connections, keeps the guarded ones, counts
// offences by address, and removes its hooks when it is closed. It reads and writes no sockets.

import { connectionKey } from '../address/connection-key.js';
import { tryCall } from '../common/callbacks.js';
import { type CheckResult, RateLimitAction } from '../common/types.js';
import { banSecondsLeft, checkAny, isBanned, recordOffence } from '../limiters/verdict.js';
import type { ClientAddress, ConnectionContext } from './connection-context.js';
import type { AddressSettings, ConnectionSettings } from './settings.js';
import type { ConnectionReason, MessageReason } from './verdicts.js';

export interface ConnectionRefusal {
  readonly reason: ConnectionReason;
  readonly verdict: CheckResult;
}

/** Seconds to wait if an address has too many connections. It is unknown when one of them will close. */
const CONCURRENCY_DELAY = 10;
const TOO_MANY: ConnectionRefusal = {
  reason: 'concurrency',
  verdict: [RateLimitAction.DELAY, CONCURRENCY_DELAY],
};

/** A key, a limiter or `trustedProxies` threw, so the connection could not be checked. */
export const CHECK_FAILED: ConnectionRefusal = {
  reason: 'error',
  verdict: [RateLimitAction.DELAY, 0],
};

/** Limits connections by address: bans, how many are open at once, and how often an address connects. */
class ConnectionLimiter {
  readonly #settings: ConnectionSettings;
  /** How many connections are open, by the key of their address. */
  readonly #open = new Map<string, number>();

  constructor(settings: ConnectionSettings) {
    this.#settings = settings;
  }

  /** Counts a connection as open until `remove`; or returns why it is refused. */
  add({ key }: ClientAddress): ConnectionRefusal | undefined {
    const refusal = this.#check(key);
    if (refusal === undefined) this.#open.set(key, this.#count(key) + 1);
    return refusal;
  }

  /** Removes a closed connection. Its address stays in the limiter; the key of a client without address does not. */
  remove({ key, isTransient }: ClientAddress): void {
    const count = this.#count(key) - 1;
    if (count > 0) this.#open.set(key, count);
    else this.#open.delete(key);
    if (isTransient) this.#settings.limiter?.removePeer(key);
  }

  #check(key: string): ConnectionRefusal | undefined {
    const { banLimiters, limiter, maxPerAddress } = this.#settings;
    const ban = banLimiters.find((limiter) => isBanned(limiter, key));
    if (ban !== undefined) {
      return { reason: 'ban', verdict: [RateLimitAction.DISCONNECT, banSecondsLeft(ban, key)] };
    }
    if (this.#count(key) >= maxPerAddress) return TOO_MANY;
    if (limiter === undefined) return undefined;
    const verdict = checkAny(limiter, key);
    return verdict[0] === RateLimitAction.ALLOW ? undefined : { reason: 'rate', verdict };
  }

  #count(key: string): number {
    return this.#open.get(key) ?? 0;
  }
}

/** The methods of a guarded connection that the guard of its server calls. */
interface Guarded {
  expel(reason: MessageReason, words?: string): boolean;
  release(): void;
}

export abstract class ServerGuard<Socket extends object> {
  readonly #limiter: ConnectionLimiter;
  readonly #offenders: AddressSettings['offenders'];
  readonly #sockets = new Map<Socket, Guarded>();
  #hooks: readonly (() => void)[] = [];
  #isClosed = false;

  protected constructor({ connections, offenders }: AddressSettings) {
    this.#limiter = new ConnectionLimiter(connections);
    this.#offenders = offenders;
  }

  get connections(): number {
    return this.#sockets.size;
  }

  get isClosed(): boolean {
    return this.#isClosed;
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

  /** Sets the functions that remove the guard's hooks from the server; `close` calls them. */
  protected setHooks(hooks: readonly (() => void)[]): void {
    this.#hooks = hooks;
  }

  /** Admits a connection until its TCP connection is closed, or returns why not. @throws what a limiter throws. */
  protected admit(
    client: ClientAddress,
    tcp: { once(event: 'close', listener: () => void): unknown },
  ): ConnectionRefusal | undefined {
    const refusal = this.#limiter.add(client);
    if (refusal === undefined) tcp.once('close', () => this.#limiter.remove(client));
    return refusal;
  }

  /**
   * Guards a connection. False if the user's key function throws: the connection would have no limits, so the caller
   * must close it.
   */
  protected guard(
    socket: Socket,
    client: ClientAddress,
    reportError: (error: unknown) => void,
    make: (context: ConnectionContext) => Guarded,
  ): boolean {
    const context: ConnectionContext = {
      key: connectionKey(socket),
      client,
      remove: () => this.#sockets.delete(socket),
      countOffence: () => tryCall(() => this.#countOffence(client), reportError),
      reportError,
    };
    const guarded = tryCall(() => make(context), reportError);
    if (guarded !== undefined) this.#sockets.set(socket, guarded);
    return guarded !== undefined;
  }

  #countOffence({ key, isTransient }: ClientAddress): void {
    const offenders = this.#offenders;
    if (offenders !== undefined && !isTransient) recordOffence(offenders, key);
  }
}
