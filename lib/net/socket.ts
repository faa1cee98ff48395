// One guarded TCP connection: bytes become lines, lines pass the gate and become 'line' events of the
// socket. Guarantees that while one waits, or the user has paused, the rest waits as bytes in the stream.

import type { Socket } from 'node:net';
import type { MessageReason } from '../guard/gate.js';
import { GuardedConnection } from '../guard/guarded.js';
import { type OpenRule, openRule } from '../guard/rules.js';
import { safely } from '../guard/surface.js';
import type { Decision } from '../guard/verdicts.js';
import type { Belonging } from '../guard/visitor.js';
import { LineCutter } from './lines.js';
import type { Line, LineCost, LineKeyOf, LineSettings } from './options.js';

interface Item {
  readonly line: Line;
  readonly bytes: number;
}

export class GuardedLines extends GuardedConnection<Item> {
  readonly #socket: Socket;
  readonly #settings: LineSettings;
  readonly #lines: LineCutter;
  readonly #listeners: Readonly<Record<string, (chunk: Buffer | string) => void>> = {
    data: (chunk) => this.#received(chunk),
    end: () => this.#ended(),
    close: () => this.closed(),
    // 'close' follows; without a listener a connection that is reset would end the process.
    error: () => {},
  };

  /** @throws what a rule's key throws. */
  constructor(socket: Socket, settings: LineSettings, belonging: Belonging) {
    const opening = { belonging, of: [socket] as LineKeyOf };
    const rules = settings.rules.map((rule) => openRule(rule, opening, costOf(rule.cost)));
    super(socket, rules, settings, belonging);
    this.#socket = socket;
    this.#settings = settings;
    this.#lines = new LineCutter(settings.maxLineBytes);
    for (const [event, listener] of Object.entries(this.#listeners)) socket.on(event, listener);
  }

  #received(chunk: Buffer | string): void {
    if (!this.isGuarded) return;
    // Text where its user has called setEncoding.
    this.#lines.push(typeof chunk === 'string' ? this.#bytesOf(chunk) : chunk);
    while (this.isGuarded && !this.gate.isShut && !this.hold.isPaused) {
      const line = this.#lines.next();
      if (line === undefined) return;
      this.#take(line);
    }
    if (this.isGuarded) this.#putBack();
  }

  /** Into the stream: one with nothing left would end, and the line that waits with it. */
  #putBack(): void {
    const rest = this.#lines.rest(this.gate.isShut);
    const { readableEncoding } = this.#socket;
    if (readableEncoding === null) this.#socket.unshift(rest);
    else this.#socket.unshift(rest.toString(readableEncoding), readableEncoding);
  }

  #bytesOf(text: string): Buffer {
    return Buffer.from(text, this.#socket.readableEncoding ?? 'utf8');
  }

  /** The last line need not have an end. */
  #ended(): void {
    if (!this.isGuarded) return;
    const line = this.#lines.last();
    if (line !== undefined) this.#take(line);
  }

  protected proceed(): void {
    this.hold.release();
  }

  #take(bytes: Buffer): void {
    const { encoding, maxLineBytes } = this.#settings;
    const line = encoding === 'buffer' ? bytes : bytes.toString(encoding);
    const item = { line, bytes: bytes.length };
    if (bytes.length > maxLineBytes) this.refuse(item, 'length');
    else this.gate.offer(item);
  }

  protected deliver({ line }: Item): void {
    this.#socket.emit('line', line);
  }

  protected rest(): Item[] {
    return [];
  }

  protected tell({ line }: Item, key: string, decision: Decision): void {
    const { onVerdict } = this.#settings;
    const { address } = this.belonging.visitor;
    const about = { kind: 'message', key, address, socket: this.#socket, data: line } as const;
    safely(() => onVerdict?.({ ...about, ...decision }));
  }

  protected closeFor(reason: MessageReason, words: string | undefined): void {
    const text = safely(() => this.#settings.farewell({ reason, words }));
    if (text === undefined) this.#socket.end();
    else this.#socket.end(text);
  }

  protected cut(): void {
    this.#socket.destroy();
  }

  /** All but the listener of errors: the socket was guarded from the beginning, its user may have none. */
  protected detach(): void {
    const { error: _, ...listeners } = this.#listeners;
    for (const [event, listener] of Object.entries(listeners)) this.#socket.off(event, listener);
  }
}

function costOf(cost: 'bytes' | LineCost | undefined): OpenRule<Item>['cost'] {
  if (cost === undefined) return () => 1;
  if (cost === 'bytes') return ({ bytes }) => bytes;
  return ({ line }) => cost(line);
}
