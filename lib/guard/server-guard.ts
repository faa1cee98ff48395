// What guards of all kinds of server do: let in or not, keep the connections that are guarded, count those
// that had to go, and take themselves off again.

import { connectionKey } from '../address/connection-key.js';
import { attempt } from '../common/callbacks.js';
import { offend } from '../limiters/verdict.js';
import { Door, type Refusal } from './door.js';
import type { MessageReason } from './gate.js';
import type { AddressSettings } from './settings.js';
import type { Belonging, Visitor } from './visitor.js';

/** What is called of a guarded connection. */
interface Guarded {
  expel(reason: MessageReason, words?: string): boolean;
  release(): void;
}

export abstract class ServerGuard<Socket extends object> {
  readonly #door: Door;
  readonly #expulsions: AddressSettings['expulsions'];
  readonly #sockets = new Map<Socket, Guarded>();
  #undo: readonly (() => void)[] = [];
  #isClosed = false;

  protected constructor({ door, expulsions }: AddressSettings) {
    this.#door = new Door(door);
    this.#expulsions = expulsions;
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
    for (const undo of this.#undo) undo();
    for (const guarded of this.#sockets.values()) guarded.release();
    this.#sockets.clear();
  }

  /** The hooks that `close` takes off. */
  protected hooked(undo: readonly (() => void)[]): void {
    this.#undo = undo;
  }

  /** Lets somebody in until the TCP connection is closed, or says why not. @throws what limiters throw. */
  protected enter(
    visitor: Visitor,
    tcp: { once(event: 'close', listener: () => void): unknown },
  ): Refusal | undefined {
    const refusal = this.#door.enter(visitor);
    if (refusal === undefined) tcp.once('close', () => this.#door.leave(visitor));
    return refusal;
  }

  /**
   * Guards a connection; false where that fails, since a key of the user's own threw: without its limits
   * nobody may come in.
   */
  protected guard(
    socket: Socket,
    visitor: Visitor,
    failed: (error: unknown) => void,
    make: (belonging: Belonging) => Guarded,
  ): boolean {
    const belonging = {
      key: connectionKey(socket),
      visitor,
      left: () => this.#sockets.delete(socket),
      offended: () => attempt(() => this.#offended(visitor), failed),
      failed,
    };
    const guarded = attempt(() => make(belonging), failed);
    if (guarded !== undefined) this.#sockets.set(socket, guarded);
    return guarded !== undefined;
  }

  #offended({ key, isTransient }: Visitor): void {
    const expulsions = this.#expulsions;
    if (expulsions !== undefined && !isTransient) offend(expulsions, key);
  }
}
