// One guarded WebSocket: its messages, pings and pongs pass the gate before any listener has them. It
// stands before `emit`, so it matters neither when listeners are added nor by which of ws's ways. A message
// that passes costs no object and no closure here: there are very many.

import type { IncomingMessage } from 'node:http';
import type { WebSocket } from 'ws';
import type { MessageReason } from '../guard/gate.js';
import { GuardedConnection } from '../guard/guarded.js';
import { override } from '../guard/override.js';
import { type OpenRule, openRule } from '../guard/rules.js';
import type { Decision } from '../guard/verdicts.js';
import type { Belonging } from '../guard/visitor.js';
import { byteLength, type FrameKind, type MessageData } from './message.js';
import type { MessageCost, MessageKeyOf, WebSocketSettings } from './options.js';

const POLICY_VIOLATION = 1008;
const CODES: Partial<Record<MessageReason, number>> = { pause: 1013, backlog: 1013, error: 1011 };

/**
 * ws goes on with the chunk that it has begun when it is paused: at most 64 KB, unless it was compressed.
 * So many bytes wait here, each message counted with what it takes of the heap beside its data, which of
 * empty ones is nearly all.
 */
const MOST_WAITING = 256 << 10;
const MESSAGE_OVERHEAD = 150;
/** RFC 6455, 5.5: a control frame has 125 bytes, of which the code takes two. */
const LONGEST_REASON = 123;

const TOO_LONG = 'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH';
const NOTHING = Buffer.alloc(0);

/** What the peer reads. */
const WORDS: Partial<Record<MessageReason, string>> = {
  disconnect: 'rate limit exceeded',
  cost: 'message above the rate limit',
  pause: 'rate limit exceeded, try again later',
  backlog: 'too many messages at once',
  error: 'internal error',
};

interface Waiting {
  readonly data: MessageData;
  readonly kind: FrameKind;
}

export class GuardedSocket extends GuardedConnection<MessageData, FrameKind> {
  readonly #client: WebSocket;
  readonly #request: IncomingMessage;
  readonly #settings: WebSocketSettings;
  /** Calls the listeners. */
  readonly #emit: (...event: unknown[]) => boolean;
  readonly #undo: readonly (() => void)[];
  /** What ws still had when the gate was shut. Pongs have passed already, and wait for their cost. */
  #waiting: Waiting[] = [];
  #waitingBytes = 0;
  #isProceeding = false;
  /** Answers the peer's close, once what it sent before has passed. */
  #answer: (() => void) | undefined;

  /** @throws what a rule's key throws. */
  constructor(
    client: WebSocket,
    request: IncomingMessage,
    settings: WebSocketSettings,
    belonging: Belonging,
  ) {
    const opening = { belonging, of: [client, request] as MessageKeyOf };
    const rules = settings.rules.map((rule) => openRule(rule, opening, costOf(rule.cost)));
    super(client, rules, settings, belonging);
    this.#client = client;
    this.#request = request;
    this.#settings = settings;
    this.#emit = client.emit.bind(client) as (...event: unknown[]) => boolean;
    const { close, terminate } = client;
    this.#undo = [
      override(client, 'emit', this.#before()),
      override(client, 'close', (...how) => {
        const proceed = () => close.apply(client, how);
        if (this.#isAnswering()) {
          this.#answerLater(proceed);
        } else {
          this.#closing();
          proceed();
        }
      }),
      override(client, 'terminate', () => {
        this.#closing();
        terminate.call(client);
      }),
    ];
  }

  #before(): WebSocket['emit'] {
    const guard = this;
    return function (event: string | symbol, data: MessageData, isBinary: boolean) {
      if (!guard.isReleased) {
        if (event === 'message') return guard.#take(data, isBinary ? 'binary' : 'text');
        if (event === 'ping' || event === 'pong') return guard.#take(data, event);
      }
      // By `apply`, since otherwise V8 makes an object of them at each message too.
      // biome-ignore lint/complexity/noArguments: how many there are differs, and listeners may count them.
      return guard.#other.apply(guard, arguments as unknown as unknown[]);
    } as WebSocket['emit'];
  }

  #take(data: MessageData, kind: FrameKind): true {
    if (!this.isGuarded) return true;
    if (this.gate.isShut || this.#waiting.length > 0) this.#wait(data, kind);
    else if (this.gate.allows(data, kind)) this.pass(data, kind);
    return true;
  }

  #other(...event: unknown[]): boolean {
    if (this.isReleased) return this.#emit(...event);
    const [name] = event;
    if (name === 'close') return this.#close(event);
    if (name === 'error') this.#failed(event[1] as { code?: unknown });
    // A peer can break a frame at any time, and 'error' without a listener would end the process.
    if (name === 'error' && this.#client.listenerCount('error') === 0) return false;
    return this.#emit(...event);
  }

  /** A message that is too long ws throws away, and closes for it with 1009; here it is an offence as well. */
  #failed({ code }: { code?: unknown }): void {
    if (code === TOO_LONG && this.isGuarded) this.refuse(NOTHING, 'binary', 'length');
  }

  #wait(data: MessageData, kind: FrameKind): void {
    if (this.isExempt(kind)) this.pass(data, kind);
    // Whoever was given it may have ended the guard.
    if (!this.isGuarded) return;
    this.#waitingBytes += weight(data);
    if (this.#waitingBytes > MOST_WAITING) this.refuse(data, kind, 'backlog');
    else this.#waiting.push({ data, kind });
  }

  /** Whether ws closes since the peer has, while messages from before wait. */
  #isAnswering(): boolean {
    const { _closeFrameReceived } = this.#client as { _closeFrameReceived?: boolean };
    const waits = this.gate.isShut || this.#waiting.length > 0;
    return this.isGuarded && waits && _closeFrameReceived === true;
  }

  /** ws reads on behind the peer's close, and throws away what comes: at full speed, until it has answered. */
  #answerLater(proceed: () => void): void {
    const { socket } = this.#request;
    this.#answer = () => {
      socket.resume();
      proceed();
    };
    process.nextTick(() => {
      if (this.#answer !== undefined) socket.pause();
    });
  }

  #drained(): void {
    const answer = this.#answer;
    this.#answer = undefined;
    answer?.();
  }

  /** Its user closes it: nothing waits any more, or the peer's answer would not be read. */
  #closing(): void {
    if (!this.isGuarded) return;
    this.gate.drop();
    this.forget();
    this.hold.release();
  }

  #close(event: unknown[]): boolean {
    try {
      return this.#emit(...event);
    } finally {
      this.closed();
    }
  }

  /** A server that hears no answer to its own pings takes the connection for dead. */
  isExempt(kind: FrameKind): boolean {
    return kind === 'pong';
  }

  protected deliver(data: MessageData, kind: FrameKind): void {
    if (kind === 'ping' || kind === 'pong') this.#emit(kind, data);
    else this.#emit('message', data, kind === 'binary');
  }

  protected proceed(): void {
    // A listener may pause and resume.
    if (this.#isProceeding) return;
    this.#isProceeding = true;
    while (this.isGuarded && !this.gate.isShut && !this.isPaused) {
      const next = this.#waiting.shift();
      if (next === undefined) {
        this.gate.drained();
        this.hold.release();
        this.#drained();
        break;
      }
      this.#waitingBytes -= weight(next.data);
      const isAllowed = this.gate.allows(next.data, next.kind);
      if (isAllowed && !this.isExempt(next.kind)) this.pass(next.data, next.kind);
    }
    this.#isProceeding = false;
  }

  protected forget(): void {
    this.#waiting = [];
    this.#waitingBytes = 0;
  }

  protected giveBack(): void {
    for (const { data, kind } of this.#waiting) if (!this.isExempt(kind)) this.give(data, kind);
    this.forget();
    this.#drained();
  }

  protected tell(data: MessageData, frame: FrameKind, key: string, decision: Decision): void {
    const kind = frame === 'ping' || frame === 'pong' ? frame : 'message';
    const { address } = this.belonging.visitor;
    const about = {
      kind,
      key,
      address,
      socket: this.#client,
      data,
      request: this.#request,
    } as const;
    this.#settings.onVerdict?.({ ...about, ...decision });
  }

  protected closeFor(reason: MessageReason, words = WORDS[reason]): void {
    const code = CODES[reason] ?? POLICY_VIOLATION;
    this.#client.close(code, cutShort(words ?? 'policy violation'));
  }

  protected cut(): void {
    this.#client.terminate();
  }

  protected detach(): void {
    for (const undo of this.#undo) undo();
  }
}

function weight(data: MessageData): number {
  return byteLength(data) + MESSAGE_OVERHEAD;
}

function costOf(cost: 'bytes' | MessageCost | undefined): OpenRule<MessageData, FrameKind>['cost'] {
  if (cost === undefined) return () => 1;
  // Empty ones are not for nothing.
  if (cost === 'bytes') return (data) => Math.max(1, byteLength(data));
  return (data, kind) => {
    if (kind === 'text') return cost(data, false);
    return kind === 'binary' ? cost(data, true) : undefined;
  };
}

/** At most what a close takes, no character cut in two. */
function cutShort(reason: string): string {
  const bytes = Buffer.from(reason);
  if (bytes.length <= LONGEST_REASON) return reason;
  return new TextDecoder().decode(bytes.subarray(0, LONGEST_REASON), { stream: true });
}
