// addressKey: what a peer counts as, by its address.

import ipaddr from 'ipaddr.js';
import { refused, refusedNumber } from '../common/errors.js';
import { readOptions } from '../common/options.js';
import { type Address, readAddress, textOf, untranslated } from './address.js';

export interface AddressKeyOptions {
  /**
   * Leading bits by which IPv6 addresses are told apart, 1 to 128. Default 64: what one household has, and
   * can choose the rest of at will. Providers give some customers a /56 or a /48.
   */
  ipv6Subnet?: number | undefined;
  /** The same of IPv4, 1 to 32. Default 32. */
  ipv4Subnet?: number | undefined;
}

export interface Subnets {
  readonly ipv6Subnet: number;
  readonly ipv4Subnet: number;
}

/** The names of its options. */
export const SUBNET_OPTIONS = ['ipv6Subnet', 'ipv4Subnet'];

/**
 * The key of an address: one text for all ways to write it. IPv4 as `192.0.2.1`, IPv6 as its network,
 * `2001:db8::/64`; a bare address where all of its bits count, a network otherwise.
 *
 * IPv4-mapped IPv6 is IPv4, and so is what translators make of IPv4 (`64:ff9b::/96`, RFC 6052), behind which a
 * whole Internet would be one /64. Brackets, ports and zones are left out.
 *
 * Undefined is taken, and refused, since frameworks have no address for some requests.
 * @throws `ERR_LIMITER_KEY` for what is no address: a name, `""`, `undefined`, `"1"`, `"010.0.0.1"`; and
 * `ERR_LIMITER_OPTION`.
 */
export function addressKey(address: string | undefined, options?: AddressKeyOptions): string {
  const key = keyWithin(address, readSubnets(readOptions('addressKey', options, SUBNET_OPTIONS)));
  if (key === undefined) {
    throw refused('ERR_LIMITER_KEY', 'an address', address, 'an IPv4 or IPv6 address');
  }
  return key;
}

/** The key, undefined for what is no address. */
export function keyWithin(text: unknown, subnets: Subnets): string | undefined {
  const read = readAddress(text);
  if (read === undefined) return undefined;
  const address = untranslated(read);
  return 'octets' in address
    ? network(address, subnets.ipv4Subnet, 32)
    : network(address, subnets.ipv6Subnet, 128);
}

/** @throws `ERR_LIMITER_OPTION` */
export function readSubnets(given: Readonly<Record<string, unknown>>): Subnets {
  return {
    ipv6Subnet: subnet(given, 'ipv6Subnet', 64, 128),
    ipv4Subnet: subnet(given, 'ipv4Subnet', 32, 32),
  };
}

function subnet(
  given: Readonly<Record<string, unknown>>,
  name: string,
  fallback: number,
  most: number,
): number {
  const bits = given[name] === undefined ? fallback : given[name];
  // With no bits at all everybody would be one peer.
  if (Number.isInteger(bits) && Number(bits) >= 1 && Number(bits) <= most) return Number(bits);
  throw refusedNumber('ERR_LIMITER_OPTION', name, bits, `a whole number from 1 to ${most}`);
}

function network(address: Address, bits: number, all: number): string {
  if (bits === all) return textOf(address);
  const bytes = address.toByteArray().map((byte, index) => byte & mask(bits - 8 * index));
  return `${textOf(ipaddr.fromByteArray(bytes))}/${bits}`;
}

/** Of one byte, of which `bits` bits are wanted, all from 8 on, none below 1. */
function mask(bits: number): number {
  return bits >= 8 ? 0xff : bits <= 0 ? 0 : 0xff & (0xff << (8 - bits));
}
