// SocketGroup: the connections that get the same messages, for example the subscribers of a topic. A message is encoded
// once, and the limiter checks all members in one call.

import type { WebSocket } from 'ws';
import { invalidValue } from '../common/errors.js';
import type { MaybePromise } from '../common/maybe-promise.js';
import { ALLOWED, type Answer, UNKNOWN_DELAY, WITHOUT_LIMITER } from '../guard/verdicts.js';
import type { PeerGroup } from '../limiters/group.js';
import { type OutgoingData, OutgoingMessage, type SendOptions } from './outgoing.js';
import type { Subscriber } from './subscriber.js';

/** The part of a guard's delivery that its groups need. @internal */
export interface GroupDelivery {
  /** Whether nothing is limited any more. */
  readonly isClosed: boolean;
  subscriber(socket: WebSocket): Subscriber;
  /** Undefined without a limiter, and for a RuleLimiter, which checks one peer at a time. */
  openPeers(): PeerGroup | undefined;
  costOf(message: OutgoingMessage): number;
  /** Asks the limiter for one connection. A promise never rejects. */
  check(subscriber: Subscriber, message: OutgoingMessage): MaybePromise<Answer>;
  /**
   * Sends an allowed message, unless the connection is slow; returns whether it was sent, or will be if the limiter allows it.
   * Calls no code of the user.
   */
  deliver(subscriber: Subscriber, message: OutgoingMessage, answer: MaybePromise<Answer>): boolean;
  /** Drops a message that was not sent, and reports it. */
  drop(subscriber: Subscriber, message: OutgoingMessage, answer: MaybePromise<Answer>): void;
}

/** By the bytes of a group's check, which returns no delays. */
const ANSWERS: readonly Answer[] = [ALLOWED, UNKNOWN_DELAY, WITHOUT_LIMITER];

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
    if (typeof sockets?.[Symbol.iterator] !== 'function') {
      const name = 'the members of a group';
      throw invalidValue('ERR_LIMITER_OPTION', name, sockets, 'an iterable of WebSockets');
    }
    this.#delivery = delivery;
    this.#peers = delivery.openPeers();
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
   * to a connection that is slow, that is above its rate, or that is closing, and counts a message that waits for a
   * SharedRateLimiter as sent. O(members).
   *
   * The limiter checks all members at one instant, before the message is sent to any of them.
   * @throws `ERR_LIMITER_OPTION` for invalid data or options, `ERR_LIMITER_COST`, and what the limiter's check throws;
   * then nothing is sent.
   */
  send(data: OutgoingData, options?: SendOptions): number {
    const delivery = this.#delivery;
    const message = new OutgoingMessage(data, options, true);
    const isExempt = delivery.isClosed || message.cost === 0;
    const bytes = isExempt ? undefined : this.#peers?.check(delivery.costOf(message));
    // A copy, because the limiter's clock and `onVerdict` may change the members.
    const members = [...this.#members];
    const answers = members.map((member, i) =>
      bytes === undefined ? delivery.check(member, message) : (ANSWERS[bytes[i] ?? 0] as Answer),
    );
    const isSent = members.map((member, i) =>
      delivery.deliver(member, message, answers[i] as MaybePromise<Answer>),
    );
    for (const [i, member] of members.entries()) {
      if (!isSent[i] && member.isOpen)
        delivery.drop(member, message, answers[i] as MaybePromise<Answer>);
    }
    return isSent.filter(Boolean).length;
  }
}
