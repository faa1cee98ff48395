// Reads an address as sockets, proxies and people write it. Guarantees that what it returns is one: a
// name, a number, or four parts of which one is octal, is none. Knows no keys and no headers.

import { isIPv4, isIPv6 } from 'node:net';
import ipaddr from 'ipaddr.js';

export type Address = ReturnType<typeof ipaddr.parse>;

// [2001:db8::1], [2001:db8::1]:443 and 192.0.2.1:443.
const IN_BRACKETS = /^\[([^[\]]*)\](?::\d{1,5})?$/;
const WITH_PORT = /^([\d.]+):\d{1,5}$/;
const DOTTED_END = /[\d.]+$/;

/** The address, without brackets, port and zone; IPv4 where it is IPv4-mapped IPv6. Undefined if it is none. */
export function readAddress(text: unknown): Address | undefined {
  if (typeof text !== 'string') return undefined;
  const bare = (IN_BRACKETS.exec(text) ?? WITH_PORT.exec(text))?.[1] ?? text;
  // ipaddr.js takes what inet_aton takes ("1", "0x7f.1", "010.0.0.1"), so Node is asked first.
  if (isIPv4(bare)) return text.startsWith('[') ? undefined : ipaddr.IPv4.parse(bare);
  if (!isIPv6(bare)) return undefined;
  const address = ipaddr.IPv6.parse(bare.replace(/%.*$/s, '').replace(DOTTED_END, inHex));
  return address.isIPv4MappedAddress() ? lastFourBytes(address) : address;
}

/** ipaddr.js reads ::192.0.2.1 as if it were IPv4-mapped, and ::c000:201, the same address, not. */
function inHex(end: string): string {
  if (!end.includes('.')) return end;
  const [a = 0, b = 0, c = 0, d = 0] = end.split('.').map(Number);
  return `${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
}

/** One text for each address. */
export function textOf(address: Address): string {
  return 'octets' in address ? address.toString() : address.toRFC5952String();
}

/** The well-known prefix of translators, RFC 6052. That for local use, 64:ff9b:1::/48, is laid out as a site likes. */
const TRANSLATED = ipaddr.IPv6.parse('64:ff9b::');

/** The IPv4 address that a translator showed as IPv6; what is none stays as it is. */
export function untranslated(address: Address): Address {
  return 'parts' in address && address.match(TRANSLATED, 96) ? lastFourBytes(address) : address;
}

function lastFourBytes(address: ipaddr.IPv6): ipaddr.IPv4 {
  return new ipaddr.IPv4(address.toByteArray().slice(-4));
}
