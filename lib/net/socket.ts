// One guarded TCP connection: bytes become lines, lines pass the gate and become 'line' events of the
// socket. Guarantees that while one waits, or the user has paused, the rest waits as bytes in the stream.

import type { Socket } from 'node:net';
import { attempt } from '../common/callbacks.js';
import type { MessageReason } from '../guard/gate.js';
import { GuardedConnection } from '../guard/guarded.js';
import { mostBytes, type OpenRule, openRule } from '../guard/rules.js';
import type { Decision } from '../guard/verdicts.js';
import type { Belonging } from '../guard/visitor.js';
import { LineCutter } from './lines.js';
import type { Line, LineCost, LineKeyOf, LineSettings } from './options.js';

/** A line, and how many bytes it had. */
export class GuardedLines extends GuardedConnection<Line, number> {
  readonly #socket: Socket;
  readonly #settings: LineSettings;
  /** Of a line: what is longer would never pass, and is not kept until its end has come. */
  readonly #mostBytes: number;
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
    // One more for its end, as a rule by bytes counts it.
    this.#mostBytes = Math.min(settings.maxLineBytes, mostBytes(settings.rules) - 1);
    this.#lines = new LineCutter(this.#mostBytes);
    for (const [event, listener] of Object.entries(this.#listeners)) socket.on(event, listener);
  }

  #received(chunk: Buffer | string): void {
    if (!this.isGuarded) return;
    this.#lines.push(this.#bytesOf(chunk));
    while (this.#isOpen && !this.gate.isShut && !this.hold.isPaused) {
      const line = this.#lines.next();
      if (line === undefined) {
        this.gate.drained();
        return;
      }
      this.#take(line);
    }
    if (this.#isOpen) this.#putBack();
  }

  /** Node gives nothing of a socket that is destroyed, and neither does the guard. */
  get #isOpen(): boolean {
    return this.isGuarded && !this.#socket.destroyed;
  }

  /** Into the stream: one with nothing left would end, and the line that waits with it. */
  #putBack(): void {
    this.#unshift(this.#lines.rest(this.gate.isShut));
  }

  #unshift(bytes: Buffer): void {
    const { readableEncoding } = this.#socket;
    if (readableEncoding === null) this.#socket.unshift(bytes);
    else this.#socket.unshift(bytes.toString(readableEncoding), readableEncoding);
  }

  /** Text where its user has called setEncoding. */
  #bytesOf(chunk: Buffer | string): Buffer {
    if (typeof chunk !== 'string') return chunk;
    return Buffer.from(chunk, this.#socket.readableEncoding ?? 'utf8');
  }

  /** The last line need not have an end. */
  #ended(): void {
    if (!this.#isOpen) return;
    const line = this.#lines.last();
    if (line !== undefined) this.#take(line);
  }

  protected proceed(): void {
    this.hold.release();
  }

  #take(bytes: Buffer): void {
    const { encoding } = this.#settings;
    const line = encoding === 'buffer' ? bytes : bytes.toString(encoding);
    if (bytes.length > this.#mostBytes) this.refuse(line, bytes.length, 'length');
    else if (this.gate.allows(line, bytes.length)) this.pass(line, bytes.length);
  }

  isExempt(): boolean {
    return false;
  }

  protected deliver(line: Line): void {
    if (!this.#socket.destroyed) this.#socket.emit('line', line);
  }

  /** It waits in the stream. */
  protected forget(): void {}

  /** As bytes, since nobody makes lines of them any more. */
  protected giveBack(): void {
    if (this.#socket.readableEnded || this.#socket.destroyed) return;
    const { begun, skips } = this.#lines.end();
    const uncut = this.#lines.rest(false);
    if (uncut.length > 0) this.#unshift(uncut);
    if (begun.length > 0) this.#unshift(begun);
    const rest = skips ? this.#socket.read() : null;
    if (rest !== null && rest.length > 1) this.#unshift(this.#bytesOf(rest).subarray(1));
  }

  protected tell(line: Line, _bytes: number, key: string, decision: Decision): void {
    const { address } = this.belonging.visitor;
    const about = { kind: 'message', key, address, socket: this.#socket, data: line } as const;
    this.#settings.onVerdict?.({ ...about, ...decision });
  }

  protected closeFor(reason: MessageReason, words: string | undefined): void {
    const text = attempt(() => this.#settings.farewell({ reason, words }), this.belonging.failed);
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

function costOf(cost: 'bytes' | LineCost | undefined): OpenRule<Line, number>['cost'] {
  if (cost === undefined) return () => 1;
  // One for its end: empty lines are not for nothing.
  if (cost === 'bytes') return (_line, bytes) => bytes + 1;
  return (line) => cost(line);
}
