// Reads the header of the PROXY protocol, version 1 (text) or 2 (binary), from the first bytes of a connection. It never
// throws, whatever the bytes are. The specification is proxy-protocol.txt of HAProxy.

import { isIPv4, isIPv6 } from 'node:net';
import { readAddress, textOf } from '../../address/address.js';

/** One end of a connection, with the field names and values of a socket of Node. */
export interface Endpoint {
  /** Canonical, and IPv4 if it is an IPv4-mapped IPv6 address. */
  readonly remoteAddress: string;
  readonly remotePort: number;
  readonly remoteFamily: 'IPv4' | 'IPv6';
}

export interface ProxyHeader {
  /** The length of the header in bytes. */
  readonly length: number;
  /**
   * The client. Undefined for a health check (LOCAL), and for a client whose IP address the proxy does not know (UNKNOWN,
   * UNSPEC, Unix sockets).
   */
  readonly client: Endpoint | undefined;
}

const PREFIX = Buffer.from('PROXY ', 'latin1');
const SIGNATURE = Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1');
/** The longest header of version 1, with its CRLF. */
const MAX_TEXT_BYTES = 107;
/**
 * The longest header of version 2. The specification expects at most 536 bytes, but the fields after the addresses, such
 * as those for TLS, can take more. nginx has the same limit.
 */
const MAX_BINARY_BYTES = 4096;
/** The part of version 2 before the addresses. */
const FIXED_BYTES = 16;
const LF = 0x0a;
const CR = 0x0d;

/**
 * Reads the header from the bytes received so far, which may be followed by other data. `incomplete`: they are the
 * beginning of a header.
 */
export function readProxyHeader(bytes: Buffer): ProxyHeader | 'incomplete' | 'invalid' {
  if (beginsLike(bytes, PREFIX)) return readText(bytes.subarray(0, MAX_TEXT_BYTES));
  return beginsLike(bytes, SIGNATURE) ? readBinary(bytes) : 'invalid';
}

function beginsLike(bytes: Buffer, beginning: Buffer): boolean {
  const length = Math.min(bytes.length, beginning.length);
  return beginning.subarray(0, length).equals(bytes.subarray(0, length));
}

function readText(bytes: Buffer): ReturnType<typeof readProxyHeader> {
  const end = bytes.indexOf(LF);
  if (end === -1) return bytes.length < MAX_TEXT_BYTES ? 'incomplete' : 'invalid';
  if (bytes[end - 1] !== CR) return 'invalid';
  const line = bytes.toString('latin1', 0, end - 1);
  const length = end + 1;
  if (/^PROXY UNKNOWN(?: |$)/.test(line)) return { length, client: undefined };
  const client = readLine(line);
  return client === undefined ? 'invalid' : { length, client };
}

const LINE = /^PROXY TCP([46]) ([\da-fA-F:.]+) ([\da-fA-F:.]+) (\d+) (\d+)$/;

function readLine(line: string): Endpoint | undefined {
  const [, version, source, destination, ...ports] = LINE.exec(line) ?? [];
  if (source === undefined || destination === undefined || !ports.every(isPort)) return undefined;
  const isAddress = version === '4' ? isIPv4 : isIPv6;
  if (!isAddress(source) || !isAddress(destination)) return undefined;
  return endpoint(source, Number(ports[0]));
}

/** A decimal number without leading zeros, at most 65535. */
function isPort(text: string): boolean {
  return String(Number(text)) === text && Number(text) <= 0xffff;
}

/** The commands and the address families of version 2. */
const LOCAL = 0;
const PROXY = 1;
const [INET, INET6] = [1, 2];
/** The bytes of both addresses and ports by family: unspecified, IPv4, IPv6, Unix. */
const ADDRESS_BYTES = [0, 12, 36, 216];
/** Unspecified, stream, datagram. */
const TRANSPORTS = 3;

function readBinary(bytes: Buffer): ReturnType<typeof readProxyHeader> {
  if (bytes.length < FIXED_BYTES) return 'incomplete';
  const version = bytes.readUInt8(12) >> 4;
  const command = bytes.readUInt8(12) & 0xf;
  const family = bytes.readUInt8(13) >> 4;
  const transport = bytes.readUInt8(13) & 0xf;
  const rest = bytes.readUInt16BE(14);
  const length = FIXED_BYTES + rest;
  if (version !== 2 || command > PROXY || length > MAX_BINARY_BYTES) return 'invalid';
  if (command === PROXY) {
    const least = ADDRESS_BYTES[family];
    if (least === undefined || transport >= TRANSPORTS || rest < least) return 'invalid';
  }
  if (bytes.length < length) return 'incomplete';
  const isUnknown = command === LOCAL || transport === 0;
  return { length, client: isUnknown ? undefined : readEndpoint(bytes, family) };
}

function readEndpoint(bytes: Buffer, family: number): Endpoint | undefined {
  if (family !== INET && family !== INET6) return undefined;
  const words = family === INET ? 1 : 4;
  const source = Array.from({ length: words }, (_, i) => bytes.readUInt32BE(FIXED_BYTES + 4 * i));
  // Both addresses come before both ports.
  return endpoint(textOf(source), bytes.readUInt16BE(FIXED_BYTES + 8 * words));
}

function endpoint(text: string, remotePort: number): Endpoint | undefined {
  const address = readAddress(text);
  if (address === undefined) return undefined;
  const remoteFamily = address.length === 1 ? 'IPv4' : 'IPv6';
  return { remoteAddress: textOf(address), remotePort, remoteFamily };
}
