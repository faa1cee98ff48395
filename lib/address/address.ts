// Parses IP addresses as sockets, proxies and people write them, and prints them. Anything else is rejected: a host
// name, a single number, or four parts with an octal one. Has no dependencies, so that it runs wherever the limiters do.

/** An address in 32-bit words, the most significant first: one for IPv4, four for IPv6. */
export type Address = readonly number[];

// [2001:db8::1], [2001:db8::1]:443 and 192.0.2.1:443.
const IN_BRACKETS = /^\[([^[\]]*)\](?::\d{1,5})?$/;
const WITH_PORT = /^([\d.]+):\d{1,5}$/;
const ZONE = /%[\w.:-]+$/;
/** A number from 0 to 255 without leading zeros, which some programs read as octal. */
const OCTET = /^(?:\d|[1-9]\d|1\d\d|2[0-4]\d|25[0-5])$/;
const HEX_FIELD = /^[\da-f]{1,4}$/i;

/** Parses an address without its brackets, port and zone. IPv4-mapped IPv6 becomes IPv4. Undefined if it is invalid. */
export function readAddress(text: unknown): Address | undefined {
  if (typeof text !== 'string') return undefined;
  const bracketed = IN_BRACKETS.exec(text)?.[1];
  if (bracketed !== undefined) return readIPv6(bracketed);
  return readIPv4(WITH_PORT.exec(text)?.[1] ?? text) ?? readIPv6(text);
}

function readIPv4(text: string): Address | undefined {
  // Not longer than 255.255.255.255: splitting a long text would take long.
  if (text.length > 15) return undefined;
  const octets = text.split('.');
  if (octets.length !== 4 || !octets.every((octet) => OCTET.test(octet))) return undefined;
  return [octets.reduce((word, octet) => word * 256 + Number(octet), 0)];
}

function readIPv6(text: string): Address | undefined {
  const bare = text.replace(ZONE, '');
  // Not longer than eight fields, or six and an IPv4 address.
  if (bare.length > 45) return undefined;
  const halves = bare.split('::');
  const [before, after] = halves.map((half, i) => readFields(half, i === halves.length - 1));
  if (before === undefined || halves.length > 2) return undefined;
  if (halves.length === 1) return before.length === 8 ? joined(before) : undefined;
  // A double colon stands for at least one field.
  if (after === undefined || before.length + after.length > 7) return undefined;
  const zeros = new Array<number>(8 - before.length - after.length).fill(0);
  return joined([...before, ...zeros, ...after]);
}

/** Reads fields of 16 bits. The last two may be written as an IPv4 address. */
function readFields(text: string, mayEndDotted: boolean): number[] | undefined {
  if (text === '') return [];
  const parts = text.split(':');
  const fields: number[] = [];
  for (const [i, part] of parts.entries()) {
    const isLast = i === parts.length - 1;
    const dotted = isLast && mayEndDotted && part.includes('.') ? readIPv4(part)?.[0] : undefined;
    if (dotted !== undefined) fields.push(Math.floor(dotted / 2 ** 16), dotted % 2 ** 16);
    else if (HEX_FIELD.test(part)) fields.push(Number.parseInt(part, 16));
    else return undefined;
  }
  return fields;
}

function joined(fields: readonly number[]): Address {
  const word = (i: number) => (fields[2 * i] as number) * 2 ** 16 + (fields[2 * i + 1] as number);
  const words = [word(0), word(1), word(2), word(3)];
  return isMapped(words) ? words.slice(3) : words;
}

/** IPv4-mapped IPv6, RFC 4291: `::ffff:0:0/96`. */
function isMapped(words: Address): boolean {
  return words[0] === 0 && words[1] === 0 && words[2] === 0xffff;
}

/** The canonical text of an address: RFC 5952 for IPv6. */
export function textOf(address: Address): string {
  const [word = 0] = address;
  if (address.length === 1) return [24, 16, 8, 0].map((bits) => (word >>> bits) & 0xff).join('.');
  const fields = address.flatMap((part) => [part >>> 16, part & 0xffff]);
  const { start, length } = longestZeros(fields);
  const hex = (some: readonly number[]) => some.map((field) => field.toString(16)).join(':');
  // One zero field is written as such.
  if (length < 2) return hex(fields);
  return `${hex(fields.slice(0, start))}::${hex(fields.slice(start + length))}`;
}

/** The first of the longest runs of zeros. */
function longestZeros(fields: readonly number[]): { start: number; length: number } {
  let longest = { start: 0, length: 0 };
  let length = 0;
  for (const [i, field] of fields.entries()) {
    length = field === 0 ? length + 1 : 0;
    if (length > longest.length) longest = { start: i + 1 - length, length };
  }
  return longest;
}

/** The number of bits of an address: 32 or 128. */
export function bitsOf(address: Address): number {
  return address.length * 32;
}

/** The first address of the network that the first `bits` bits of an address name. */
export function firstOf(address: Address, bits: number): Address {
  return address.map((word, i) => (word & mask(bits - 32 * i)) >>> 0);
}

/** The last address of that network. */
export function lastOf(address: Address, bits: number): Address {
  return address.map((word, i) => (word | ~mask(bits - 32 * i)) >>> 0);
}

/** The mask of one word that keeps its first `bits` bits: all bits from 32 on, no bits below 1. */
function mask(bits: number): number {
  return bits >= 32 ? -1 : bits <= 0 ? 0 : -1 << (32 - bits);
}

/**
 * Returns the IPv4 address that a translator has embedded in an IPv6 address; other addresses stay unchanged. Only of
 * the well-known prefix `64:ff9b::/96` of RFC 6052: in the prefix for local use, 64:ff9b:1::/48, each site chooses its
 * own layout.
 */
export function untranslated(address: Address): Address {
  const isTranslated = address[0] === 0x0064_ff9b && address[1] === 0 && address[2] === 0;
  return isTranslated && address.length === 4 ? address.slice(3) : address;
}
