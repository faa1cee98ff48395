// A message to send. It is encoded once, however many connections it goes to.

import { invalidValue } from '../common/errors.js';
import { readOptions, requireCost } from '../common/options.js';

/** The data of a message to send: text, or bytes. */
export type OutgoingData = string | ArrayBuffer | ArrayBufferView;

/** The options of one message to send. */
export interface SendOptions {
  /** Whether the message is binary. Default: true for bytes, false for a string. Bytes that are text must be UTF-8. */
  binary?: boolean | undefined;
  /** Whether permessage-deflate compresses the message, if the connection has that extension. Default true. */
  compress?: boolean | undefined;
  /**
   * The tokens that the limiter of `delivery` takes from each receiver, a finite number of at least 0. Default: by the
   * option `cost` of `delivery`. For example 0 for the answer to a request, which must not be dropped.
   */
  cost?: number | undefined;
}

const FIN = 0x80;
const TEXT = 1;
const BINARY = 2;
/** RFC 6455, 5.2: lengths up to 125 are in the second byte; 126 and 127 say that 2 or 8 bytes with the length follow. */
const MAX_LENGTH_7 = 125;
const LENGTH_16 = 126;
const LENGTH_64 = 127;

/** A message to send to one connection, or to many. @internal */
export class OutgoingMessage {
  readonly isBinary: boolean;
  readonly compress: boolean;
  /** The option `cost`. */
  readonly cost: number | undefined;
  /** Whether it goes to many connections, so that it should be encoded before it is sent. */
  readonly isShared: boolean;
  readonly #data: OutgoingData;
  #frame: Buffer | undefined;
  #payload: Buffer | undefined;

  /** @throws `ERR_LIMITER_OPTION`; `ERR_LIMITER_COST` */
  constructor(data: OutgoingData, options: SendOptions | undefined, isShared: boolean) {
    requireData(data);
    const given = readOptions('a message', options, ['binary', 'compress', 'cost']);
    this.isBinary = flag(given, 'binary', typeof data !== 'string');
    this.compress = flag(given, 'compress', true);
    if (given['cost'] !== undefined) requireCost(given['cost']);
    this.cost = given['cost'];
    this.isShared = isShared;
    this.#data = data;
  }

  get byteLength(): number {
    return this.isShared ? this.payload.length : byteLength(this.#data);
  }

  /** The data for `send` of a WebSocket, which encodes it. */
  get data(): OutgoingData {
    return this.isShared ? this.payload : this.#data;
  }

  /** The encoded data. */
  get payload(): Buffer {
    this.#payload ??= this.frame.subarray(headerLength(this.frame));
    return this.#payload;
  }

  /**
   * The message as a frame of RFC 6455. Servers send frames without a mask, so all connections without compression get
   * the same bytes. They have memory of their own: a slice of Node's pool would keep 8 KB in use while it waits.
   */
  get frame(): Buffer {
    this.#frame ??= frameOf(this.#data, this.isBinary ? BINARY : TEXT);
    return this.#frame;
  }
}

function flag(given: Readonly<Record<string, unknown>>, name: string, fallback: boolean): boolean {
  const { [name]: value = fallback } = given;
  if (typeof value === 'boolean') return value;
  throw invalidValue('ERR_LIMITER_OPTION', name, value, 'a boolean');
}

function requireData(data: unknown): void {
  if (typeof data === 'string' || ArrayBuffer.isView(data) || data instanceof ArrayBuffer) return;
  const accepted = 'a string, an ArrayBuffer, or a view of one such as a Buffer';
  throw invalidValue('ERR_LIMITER_OPTION', 'data', data, accepted);
}

function frameOf(data: OutgoingData, opcode: number): Buffer {
  const length = byteLength(data);
  const start = length <= MAX_LENGTH_7 ? 2 : length < 2 ** 16 ? 4 : 10;
  const frame = Buffer.allocUnsafeSlow(start + length);
  frame[0] = FIN | opcode;
  frame[1] = start === 2 ? length : start === 4 ? LENGTH_16 : LENGTH_64;
  if (start === 4) frame.writeUInt16BE(length, 2);
  else if (start === 10) frame.writeBigUInt64BE(BigInt(length), 2);
  if (typeof data === 'string') frame.write(data, start);
  else if (ArrayBuffer.isView(data)) {
    frame.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), start);
  } else frame.set(new Uint8Array(data), start);
  return frame;
}

function byteLength(data: OutgoingData): number {
  return typeof data === 'string' ? Buffer.byteLength(data) : data.byteLength;
}

function headerLength({ 1: length = 0 }: Buffer): number {
  if (length <= MAX_LENGTH_7) return 2;
  return length === LENGTH_16 ? 4 : 10;
}
