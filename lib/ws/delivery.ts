// Delivery: sends messages to connections, within limits. What a peer does not read waits in the memory of this process, and
// so does what the limiter has not allowed yet: at most `maxBufferedBytes` and one message for each connection. What is sent
// is never cut or reordered.

import type { WebSocket } from 'ws';
import { tryCall } from '../common/callbacks.js';
import { invalidValue } from '../common/errors.js';
import { hasMethods } from '../common/kinds.js';
import { isPromise, type MaybePromise } from '../common/maybe-promise.js';
import { type CheckResult, RateLimitAction } from '../common/types.js';
import { warnOfError } from '../common/warnings.js';
import {
  ALLOWED,
  type Answer,
  answerOf,
  type MessageReason,
  ruleAnswer,
  UNKNOWN_DELAY,
} from '../guard/verdicts.js';
import { isAsyncLimiter } from '../limiters/async-limiter.js';
import type { PeerGroup } from '../limiters/group.js';
import { forget } from '../limiters/stalled.js';
import type { RuleVerdict } from '../rules/types.js';
import type { DeliverySettings } from './delivery-options.js';
import type { WebSocketGuardSettings } from './options.js';
import { type OutgoingData, OutgoingMessage, type SendOptions } from './outgoing.js';
import { type GroupDelivery, SocketGroup } from './socket-group.js';
import { type DeliveryConnection, Subscriber } from './subscriber.js';

/** What became of the messages for connections that were open, since the guard was made. */
export interface DeliveryCounts {
  /** Messages that were sent. */
  readonly sent: number;
  /** Messages that were dropped because the connection was slow, also those that closed it. */
  readonly droppedSlow: number;
  /** Messages that the limiter refused, or could not check because of an error. */
  readonly droppedRate: number;
  /** Connections that were closed because they were slow. */
  readonly closedSlow: number;
}

/** The answer of a limiter that threw. */
const FAILED: Answer = { ...UNKNOWN_DELAY };

type Callbacks = Pick<WebSocketGuardSettings, 'onVerdict' | 'onError'>;

/** @internal */
export class Delivery implements GroupDelivery {
  readonly #settings: DeliverySettings;
  readonly #callbacks: Callbacks;
  readonly #connections = new WeakMap<WebSocket, DeliveryConnection>();
  readonly #subscribers = new WeakMap<WebSocket, Subscriber>();
  /** The subscribers for which messages wait for the limiter. */
  readonly #withUnchecked = new Set<Subscriber>();
  readonly #counts = { sent: 0, droppedSlow: 0, droppedRate: 0, closedSlow: 0 };
  #isClosed = false;
  #isReporting = false;

  constructor(settings: DeliverySettings, callbacks: Callbacks) {
    this.#settings = settings;
    this.#callbacks = callbacks;
  }

  get counts(): DeliveryCounts {
    return { ...this.#counts };
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  openPeers(): PeerGroup | undefined {
    const { limiter } = this.#settings;
    if (limiter === undefined || isAsyncLimiter(limiter)) return undefined;
    return 'group' in limiter ? limiter.group() : undefined;
  }

  /** Adds a guarded connection. */
  connect(socket: WebSocket, connection: DeliveryConnection): void {
    this.#connections.set(socket, connection);
    // A function for a key may have sent to the connection already.
    const known = this.#subscribers.get(socket);
    if (known !== undefined) known.connection = connection;
  }

  send(socket: WebSocket, data: OutgoingData, options: SendOptions | undefined): boolean {
    const subscriber = this.subscriber(socket);
    const message = new OutgoingMessage(data, options, false);
    if (!subscriber.isOpen) return false;
    const answer = this.check(subscriber, message);
    if (this.deliver(subscriber, message, answer)) return true;
    // The limiter's clock may have closed the connection.
    if (subscriber.isOpen) this.drop(subscriber, message, answer);
    return false;
  }

  group(sockets: Iterable<WebSocket>): SocketGroup {
    return new SocketGroup(this, sockets);
  }

  /** Nothing is limited any more. */
  close(): void {
    this.#isClosed = true;
    for (const subscriber of this.#withUnchecked) this.#sendAnswered(subscriber);
  }

  subscriber(socket: WebSocket): Subscriber {
    const known = this.#subscribers.get(socket);
    if (known !== undefined) return known;
    if (!hasMethods(socket, 'send', 'once')) {
      const accepted = "a WebSocket of the package 'ws'";
      throw invalidValue('ERR_LIMITER_OPTION', 'the socket', socket, accepted);
    }
    const subscriber = new Subscriber(socket, this.#connections.get(socket));
    this.#subscribers.set(socket, subscriber);
    socket.once('close', () => {
      for (const group of subscriber.groups) group.delete(socket);
      const { limiter } = this.#settings;
      if (limiter !== undefined) forget(limiter, subscriber.key);
    });
    return subscriber;
  }

  costOf(message: OutgoingMessage): number {
    return message.cost ?? (this.#settings.countsBytes ? Math.max(1, message.byteLength) : 1);
  }

  check(subscriber: Subscriber, message: OutgoingMessage): MaybePromise<Answer> {
    if (this.#isClosed || message.cost === 0) return ALLOWED;
    const { limiter, usesRules } = this.#settings;
    if (limiter !== undefined) {
      // It will be dropped: checks that are not answered yet must be bounded as well.
      if (isAsyncLimiter(limiter) && this.#isFull(subscriber)) return ALLOWED;
      const result = subscriber.check(limiter, this.costOf(message));
      if (!isPromise(result)) return toAnswer(result);
      return result.then(toAnswer, (error) => this.#failed(subscriber, error));
    }
    const peer = usesRules ? subscriber.connection?.peer : undefined;
    if (peer === undefined) return ALLOWED;
    if (peer.peekMessage === undefined && this.#isFull(subscriber)) return ALLOWED;
    const verdict = peer.checkDelivery(message.byteLength, message.cost);
    if (!isPromise(verdict)) return toRuleAnswer(verdict);
    return verdict.then(toRuleAnswer, (error) => this.#failed(subscriber, error));
  }

  #failed(subscriber: Subscriber, error: unknown): Answer {
    this.#reportError(subscriber, error);
    return FAILED;
  }

  deliver(subscriber: Subscriber, message: OutgoingMessage, answer: MaybePromise<Answer>): boolean {
    const isRefused = !isPromise(answer) && answer.action !== RateLimitAction.ALLOW;
    if (isRefused || !subscriber.isOpen || this.#isFull(subscriber)) return false;
    if (isPromise(answer)) this.#sendLater(subscriber, message, answer);
    else if (subscriber.hasUnchecked) subscriber.addUnchecked(message, answer);
    else this.#write(subscriber, message);
    return true;
  }

  #write(subscriber: Subscriber, message: OutgoingMessage): void {
    subscriber.write(message);
    this.#counts.sent += 1;
  }

  #sendLater(subscriber: Subscriber, message: OutgoingMessage, answer: PromiseLike<Answer>): void {
    const unchecked = subscriber.addUnchecked(message, undefined);
    this.#withUnchecked.add(subscriber);
    answer.then((given) => {
      unchecked.answer = given;
      this.#sendAnswered(subscriber);
    });
  }

  /** Sends or drops the messages up to the first that the limiter has not answered; all of them if nothing is limited. */
  #sendAnswered(subscriber: Subscriber): void {
    const { maxBufferedBytes } = this.#settings;
    for (;;) {
      const next = subscriber.takeUnchecked(!this.#isClosed);
      if (next === undefined) break;
      const { message } = next;
      const answer = this.#isClosed ? ALLOWED : (next.answer as Answer);
      const isAllowed = answer.action === RateLimitAction.ALLOW;
      if (!subscriber.isOpen) continue;
      if (isAllowed && (this.#isClosed || !subscriber.isSlow(maxBufferedBytes))) {
        this.#write(subscriber, message);
      } else this.drop(subscriber, message, answer);
    }
    if (!subscriber.hasUnchecked) this.#withUnchecked.delete(subscriber);
  }

  drop(subscriber: Subscriber, message: OutgoingMessage, answer: MaybePromise<Answer>): void {
    if (!isPromise(answer) && answer.action !== RateLimitAction.ALLOW) {
      this.#counts.droppedRate += 1;
      this.#reportDrop(subscriber, message, answer, reasonFor(answer), 'dropped');
      return;
    }
    this.#counts.droppedSlow += 1;
    const { connection } = subscriber;
    const closes = connection !== undefined && this.#settings.onSlow === 'close';
    this.#reportDrop(subscriber, message, UNKNOWN_DELAY, 'slow', closes ? 'closed' : 'dropped');
    if (closes && connection.close()) this.#counts.closedSlow += 1;
  }

  #isFull(subscriber: Subscriber): boolean {
    return !this.#isClosed && subscriber.isFull(this.#settings.maxBufferedBytes);
  }

  #reportError({ connection, socket }: Subscriber, error: unknown): void {
    // `onError` gets the request of the connection.
    if (connection === undefined) warnOfError(error);
    else this.#callbacks.onError(error, { socket, request: connection.request });
  }

  #reportDrop(
    subscriber: Subscriber,
    message: OutgoingMessage,
    answer: Answer,
    reason: MessageReason,
    did: 'dropped' | 'closed',
  ): void {
    const { onVerdict } = this.#callbacks;
    const { connection, key, socket } = subscriber;
    // `onVerdict` may try to send to the same connection, which drops that message too.
    if (onVerdict === undefined || connection === undefined || this.#isReporting) return;
    const { address, request } = connection;
    const data = message.payload;
    const fields = { kind: 'delivery', key, address, socket, data, request } as const;
    this.#isReporting = true;
    tryCall(
      () => onVerdict({ ...fields, did, reason, ...answer }),
      (error) => this.#reportError(subscriber, error),
    );
    this.#isReporting = false;
  }
}

function toRuleAnswer(verdict: RuleVerdict): Answer {
  return verdict.outcome === 'allow' ? ALLOWED : ruleAnswer(verdict);
}

function toAnswer(result: CheckResult): Answer {
  return result[0] === RateLimitAction.ALLOW ? ALLOWED : answerOf(result);
}

function reasonFor(answer: Answer): MessageReason {
  if (answer === FAILED) return 'error';
  // A ban or a deny list has a scope, but no rule.
  const isListed = answer.scope !== null && answer.rule === null;
  return answer.delaySeconds === Infinity && !isListed ? 'cost' : 'rate';
}
