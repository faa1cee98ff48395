// One guarded WebSocket: its messages, pings and pongs pass the gate before any listener has them. It
// stands before `emit`, so it matters neither when listeners are added nor by which of ws's ways.

import type { IncomingMessage } from 'node:http';
import type { WebSocket } from 'ws';
import type { MessageReason } from '../guard/gate.js';
import { GuardedConnection } from '../guard/guarded.js';
import { override } from '../guard/override.js';
import { type OpenRule, openRule } from '../guard/rules.js';
import { safely } from '../guard/surface.js';
import type { Decision } from '../guard/verdicts.js';
import type { Belonging } from '../guard/visitor.js';
import { byteLength, type Call, type MessageData } from './message.js';
import type { MessageCost, MessageKeyOf, WebSocketSettings } from './options.js';

const POLICY_VIOLATION = 1008;
const TRY_AGAIN_LATER = 1013;

/**
 * ws goes on with the chunk that it has begun when it is paused: at most 64 KB, unless it was compressed.
 * So many bytes wait here, each message counted with what it takes beside its data; more is a bomb.
 */
const MOST_WAITING = 1 << 20;
const MESSAGE_OVERHEAD = 64;
/** RFC 6455, 5.5: a control frame has 125 bytes, of which the code takes two. */
const LONGEST_REASON = 123;

/** What the peer reads. */
const WORDS: Partial<Record<MessageReason, string>> = {
  disconnect: 'rate limit exceeded',
  cost: 'message above the rate limit',
  pause: 'rate limit exceeded, try again later',
  backlog: 'too many messages at once',
};

export class GuardedSocket extends GuardedConnection<Call> {
  readonly #client: WebSocket;
  readonly #request: IncomingMessage;
  readonly #settings: WebSocketSettings;
  /** Calls the listeners. */
  readonly #emit: (...event: unknown[]) => boolean;
  readonly #undo: () => void;
  /** What ws still had when the gate was shut. */
  #waiting: Call[] = [];
  #waitingBytes = 0;

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
    this.#undo = override(client, 'emit', this.#before());
  }

  /** What stands before `emit`. A message costs no array here: there are very many. */
  #before(): WebSocket['emit'] {
    const guard = this;
    return function (event: string | symbol, data: MessageData, isBinary: boolean) {
      if (event === 'message' || event === 'ping' || event === 'pong') {
        if (!guard.isReleased) return guard.#take({ event, data, isBinary });
      }
      // biome-ignore lint/complexity/noArguments: how many there are differs, and listeners may count them.
      return guard.#other(event, arguments);
    } as WebSocket['emit'];
  }

  #take(call: Call): true {
    if (!this.isGuarded) return true;
    if (this.gate.isShut) this.#wait(call);
    else this.gate.offer(call);
    return true;
  }

  #other(event: string | symbol, call: IArguments): boolean {
    if (this.isReleased) return this.#emit(...call);
    if (event === 'close') return this.#close(call);
    // A peer can break a frame at any time, and 'error' without a listener would end the process.
    if (event === 'error' && this.#client.listenerCount('error') === 0) return false;
    return this.#emit(...call);
  }

  #wait(call: Call): void {
    this.#waitingBytes += weight(call);
    if (this.#waitingBytes > MOST_WAITING) this.refuse(call, 'backlog');
    else this.#waiting.push(call);
  }

  #close(call: IArguments): boolean {
    try {
      return this.#emit(...call);
    } finally {
      this.closed();
    }
  }

  protected deliver({ event, data, isBinary }: Call): void {
    if (event === 'message') this.#emit(event, data, isBinary);
    else this.#emit(event, data);
  }

  protected proceed(): void {
    while (!this.gate.isShut && this.isGuarded) {
      const call = this.#waiting.shift();
      if (call === undefined) {
        this.hold.release();
        return;
      }
      this.#waitingBytes -= weight(call);
      this.gate.offer(call);
    }
  }

  protected rest(): Call[] {
    const waiting = this.#waiting;
    this.#waiting = [];
    return waiting;
  }

  protected tell(call: Call, key: string, decision: Decision): void {
    const { event: kind, data } = call;
    const { onVerdict } = this.#settings;
    const { address } = this.belonging.visitor;
    const about = { kind, key, address, socket: this.#client, data, request: this.#request };
    safely(() => onVerdict?.({ ...about, ...decision }));
  }

  protected closeFor(reason: MessageReason, words = WORDS[reason]): void {
    const code = reason === 'pause' ? TRY_AGAIN_LATER : POLICY_VIOLATION;
    this.#client.close(code, cutShort(words ?? 'policy violation'));
  }

  protected cut(): void {
    this.#client.terminate();
  }

  protected detach(): void {
    this.#undo();
  }
}

function weight({ data }: Call): number {
  return byteLength(data) + MESSAGE_OVERHEAD;
}

function costOf(cost: 'bytes' | MessageCost | undefined): OpenRule<Call>['cost'] {
  if (cost === undefined) return () => 1;
  if (cost === 'bytes') return ({ data }) => byteLength(data);
  return ({ event, data, isBinary }) => (event === 'message' ? cost(data, isBinary) : undefined);
}

/** At most what a close takes, no character cut in two. */
function cutShort(reason: string): string {
  const bytes = Buffer.from(reason);
  if (bytes.length <= LONGEST_REASON) return reason;
  return new TextDecoder().decode(bytes.subarray(0, LONGEST_REASON), { stream: true });
}
