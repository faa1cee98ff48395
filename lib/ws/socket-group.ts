// SocketGroup: the connections that get the same messages, for example the subscribers of a topic. A message is encoded
// once, and the limiter checks all members in one call.

import type { WebSocket } from 'ws';
import { ALLOWED, DISCONNECTED } from '../common/check-results.js';
import { invalidValue } from '../common/errors.js';
import { type CheckResult, RateLimitAction } from '../common/types.js';
import type { PeerGroup } from '../limiters/group.js';
import type { AnyLimiter } from '../limiters/verdict.js';
import { type OutgoingData, OutgoingMessage, type SendOptions } from './outgoing.js';
import type { Subscriber } from './subscriber.js';

/** The part of a guard's delivery that its groups need. @internal */
export interface GroupDelivery {
  /** Undefined if nothing limits the rate. */
  readonly limiter: AnyLimiter | undefined;
  subscriber(socket: WebSocket): Subscriber;
  costOf(message: OutgoingMessage): number;
  /** Sends an allowed message, unless the connection is slow; returns whether it was sent. Calls no code of the user. */
  deliver(subscriber: Subscriber, message: OutgoingMessage, verdict: CheckResult): boolean;
  /** Drops a message that was not sent, and reports it. */
  drop(subscriber: Subscriber, message: OutgoingMessage, verdict: CheckResult): void;
}

/** A group's check does not return delays. */
const REFUSED: CheckResult = Object.freeze([RateLimitAction.DELAY, 0] as const);
/** By the bytes of a group's check. */
const VERDICTS: readonly CheckResult[] = [ALLOWED, REFUSED, DISCONNECTED];
const BYTES = { allow: 0, delay: 1, disconnect: 2 } as const;

/**
 * SocketGroup sends the same messages to many connections, for example to the subscribers of a topic. The method
 * `group` of a guard creates it. Each connection is a member at most once, and leaves when it closes.
 * @example
 * import { once } from 'node:events';
 * import { guardWebSocketServer } from 'relay-limiter/ws';
 * import { WebSocketServer } from 'ws';
 *
 * const server = new WebSocketServer({ host: '127.0.0.1', port: 0, maxPayload: 65_536 });
 * await once(server, 'listening');
 * const guard = guardWebSocketServer(server, { delivery: { maxBufferedBytes: 100_000 } });
 * const news = guard.group();
 * server.on('connection', (socket) => news.add(socket));
 * console.log(news.send('hello')); // 0, since nobody has connected yet
 * guard.close();
 * server.close();
 */
export class SocketGroup {
  readonly #delivery: GroupDelivery;
  readonly #members: Subscriber[] = [];
  readonly #indexes = new Map<Subscriber, number>();
  /** The same members in the same order. Undefined if the limiter checks one peer at a time. */
  readonly #peers: PeerGroup | undefined;

  /** @internal */
  constructor(delivery: GroupDelivery, sockets: Iterable<WebSocket>) {
    const { limiter } = delivery;
    if (typeof sockets?.[Symbol.iterator] !== 'function') {
      const name = 'the members of a group';
      throw invalidValue('ERR_LIMITER_OPTION', name, sockets, 'an iterable of WebSockets');
    }
    this.#delivery = delivery;
    this.#peers = limiter !== undefined && 'group' in limiter ? limiter.group() : undefined;
    for (const socket of sockets) this.add(socket);
  }

  /** The number of members. */
  get size(): number {
    return this.#members.length;
  }

  /** Returns whether a connection is a member. O(1). */
  has(socket: WebSocket): boolean {
    return this.#indexes.has(this.#delivery.subscriber(socket));
  }

  /**
   * Adds a connection, unless it is a member or no longer open. O(1).
   * @throws `ERR_LIMITER_OPTION` unless `socket` is a WebSocket; `ERR_LIMITER_MEMORY`; and then changes nothing.
   */
  add(socket: WebSocket): void {
    const subscriber = this.#delivery.subscriber(socket);
    if (!subscriber.isOpen || this.#indexes.has(subscriber)) return;
    this.#peers?.add(subscriber.key);
    this.#indexes.set(subscriber, this.#members.length);
    this.#members.push(subscriber);
    subscriber.groups.add(this);
  }

  /**
   * Removes a connection and returns whether it was a member. O(1).
   * @throws `ERR_LIMITER_OPTION` unless `socket` is a WebSocket
   */
  delete(socket: WebSocket): boolean {
    const subscriber = this.#delivery.subscriber(socket);
    const index = this.#indexes.get(subscriber);
    if (index === undefined) return false;
    subscriber.groups.delete(this);
    this.#peers?.delete(subscriber.key);
    // As in a PeerGroup, the last member moves to the index.
    const last = this.#members.pop() as Subscriber;
    this.#indexes.delete(subscriber);
    if (last !== subscriber) {
      this.#members[index] = last;
      this.#indexes.set(last, index);
    }
    return true;
  }

  /**
   * Sends a message to all members and returns to how many of them it was sent. As `send` of the guard, it does not send
   * to a connection that is slow, that is above its rate, or that is closing. O(members).
   *
   * The limiter checks all members at one instant, before the message is sent to any of them.
   * @throws `ERR_LIMITER_OPTION` for invalid data or options, `ERR_LIMITER_COST`, and what the limiter's check throws;
   * then nothing is sent.
   */
  send(data: OutgoingData, options?: SendOptions): number {
    const delivery = this.#delivery;
    const message = new OutgoingMessage(data, options, true);
    const verdicts = this.#check(message);
    const refused: [Subscriber, CheckResult][] = [];
    let sent = 0;
    for (const [i, member] of this.#members.entries()) {
      const verdict = VERDICTS[verdicts?.[i] ?? 0] as CheckResult;
      if (delivery.deliver(member, message, verdict)) sent += 1;
      else if (member.isOpen) refused.push([member, verdict]);
    }
    // Only now, because `onVerdict` may change the members.
    for (const [member, verdict] of refused) delivery.drop(member, message, verdict);
    return sent;
  }

  /** A byte per member; undefined if nothing limits the rate. */
  #check(message: OutgoingMessage): Uint8Array | undefined {
    const { limiter } = this.#delivery;
    if (limiter === undefined) return undefined;
    const cost = this.#delivery.costOf(message);
    if (this.#peers !== undefined) return this.#peers.check(cost);
    return Uint8Array.from(this.#members, (member) => BYTES[member.check(limiter, cost)[0]]);
  }
}
