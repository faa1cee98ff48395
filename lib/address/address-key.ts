// addressKey: the key of a peer by its address or its network.

import { invalidNumber, invalidValue } from '../common/errors.js';
import { readOptions } from '../common/options.js';
import { type Address, bitsOf, firstOf, readAddress, textOf, untranslated } from './address.js';

/** The options of `addressKey`. */
export interface AddressKeyOptions {
  /**
   * The number of leading bits of an IPv6 address that form the key, 1 to 128. Default 64: one household usually has a
   * /64 and can choose the other bits freely. Providers give some customers a /56 or a /48.
   */
  ipv6Subnet?: number | undefined;
  /** The number of leading bits of an IPv4 address that form the key, 1 to 32. Default 32. */
  ipv4Subnet?: number | undefined;
}

export interface Subnets {
  readonly ipv6Subnet: number;
  readonly ipv4Subnet: number;
}

/** The names of the options. */
export const SUBNET_OPTIONS = ['ipv6Subnet', 'ipv4Subnet'];

/**
 * Returns the key of an address, the same for all notations of the address. The key of IPv4 is `192.0.2.1`, that of
 * IPv6 its network, such as `2001:db8::/64`. It is an address if all bits count, and a network otherwise.
 *
 * IPv4-mapped IPv6 counts as IPv4, and so do addresses that translators make of IPv4 (`64:ff9b::/96`, RFC 6052): the
 * whole IPv4 Internet would otherwise share one /64. Brackets, ports and zones are ignored.
 *
 * The parameter may be undefined because frameworks have no address for some requests; undefined is rejected.
 * @throws `ERR_LIMITER_KEY` for a value that is no address, such as a host name, `""`, `undefined`, `"1"` or
 * `"010.0.0.1"`; `ERR_LIMITER_OPTION` for an invalid option.
 * @example
 * import { addressKey } from 'relay-limiter/address';
 *
 * // Prints 192.0.2.1, then 2001:db8::/64, then 2001:db8::/56.
 * console.log(addressKey('::ffff:192.0.2.1'));
 * console.log(addressKey('[2001:db8::1]:8080'));
 * console.log(addressKey('2001:db8::1', { ipv6Subnet: 56 }));
 */
export function addressKey(address: string | undefined, options?: AddressKeyOptions): string {
  const key = keyWithin(address, readSubnets(readOptions('addressKey', options, SUBNET_OPTIONS)));
  if (key === undefined) {
    throw invalidValue('ERR_LIMITER_KEY', 'an address', address, 'an IPv4 or IPv6 address');
  }
  return key;
}

/** Returns the key, or undefined if the text is no address. */
export function keyWithin(text: unknown, subnets: Subnets): string | undefined {
  const read = readAddress(text);
  if (read === undefined) return undefined;
  const address = untranslated(read);
  const isIPv4 = address.length === 1;
  return networkText(address, isIPv4 ? subnets.ipv4Subnet : subnets.ipv6Subnet);
}

/** The text of a network; that of an address if all bits count. @internal */
export function networkText(address: Address, bits: number): string {
  const first = textOf(firstOf(address, bits));
  return bits === bitsOf(address) ? first : `${first}/${bits}`;
}

const ADDRESS: Subnets = { ipv6Subnet: 64, ipv4Subnet: 32 };

/** @throws `ERR_LIMITER_OPTION` */
export function readSubnets(
  given: Readonly<Record<string, unknown>>,
  fallback: Subnets = ADDRESS,
): Subnets {
  return {
    ipv6Subnet: subnet(given, 'ipv6Subnet', fallback.ipv6Subnet, 128),
    ipv4Subnet: subnet(given, 'ipv4Subnet', fallback.ipv4Subnet, 32),
  };
}

function subnet(
  given: Readonly<Record<string, unknown>>,
  name: string,
  fallback: number,
  max: number,
): number {
  const bits = given[name] === undefined ? fallback : given[name];
  // With 0 bits all addresses would share one key.
  if (Number.isInteger(bits) && Number(bits) >= 1 && Number(bits) <= max) return Number(bits);
  throw invalidNumber('ERR_LIMITER_OPTION', name, bits, `a whole number from 1 to ${max}`);
}
