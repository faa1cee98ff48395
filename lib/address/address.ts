// Parses IP addresses as sockets, proxies and people write them. Anything else is rejected: a host name, a single
// number, or four parts with an octal one.

import { isIPv4, isIPv6 } from 'node:net';
import ipaddr from 'ipaddr.js';

export type Address = ReturnType<typeof ipaddr.parse>;

// [2001:db8::1], [2001:db8::1]:443 and 192.0.2.1:443.
const IN_BRACKETS = /^\[([^[\]]*)\](?::\d{1,5})?$/;
const WITH_PORT = /^([\d.]+):\d{1,5}$/;
const DOTTED_END = /[\d.]+$/;

/** Parses an address without its brackets, port and zone. IPv4-mapped IPv6 becomes IPv4. Undefined if it is invalid. */
export function readAddress(text: unknown): Address | undefined {
  if (typeof text !== 'string') return undefined;
  const bare = (IN_BRACKETS.exec(text) ?? WITH_PORT.exec(text))?.[1] ?? text;
  // Node validates the text first: ipaddr.js accepts everything that inet_aton does ("1", "0x7f.1", "010.0.0.1").
  if (isIPv4(bare)) return text.startsWith('[') ? undefined : ipaddr.IPv4.parse(bare);
  if (!isIPv6(bare)) return undefined;
  const address = ipaddr.IPv6.parse(bare.replace(/%.*$/s, '').replace(DOTTED_END, toHex));
  return address.isIPv4MappedAddress() ? lastFourBytes(address) : address;
}

/** Converts a dotted end to hex: ipaddr.js parses ::192.0.2.1 as IPv4-mapped, but not ::c000:201, the same address. */
function toHex(end: string): string {
  if (!end.includes('.')) return end;
  const [a = 0, b = 0, c = 0, d = 0] = end.split('.').map(Number);
  return `${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
}

/** The canonical text of an address. */
export function textOf(address: Address): string {
  return 'octets' in address ? address.toString() : address.toRFC5952String();
}

/**
 * The well-known prefix of IPv4/IPv6 translators, RFC 6052. The prefix for local use, 64:ff9b:1::/48, is not decoded:
 * each site chooses its own layout.
 */
const TRANSLATION_PREFIX = ipaddr.IPv6.parse('64:ff9b::');

/** Returns the IPv4 address that a translator has embedded in an IPv6 address; other addresses stay unchanged. */
export function untranslated(address: Address): Address {
  return 'parts' in address && address.match(TRANSLATION_PREFIX, 96)
    ? lastFourBytes(address)
    : address;
}

function lastFourBytes(address: ipaddr.IPv6): ipaddr.IPv4 {
  return new ipaddr.IPv4(address.toByteArray().slice(-4));
}
