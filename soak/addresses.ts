// Addresses as keys of a RuleLimiter, each with the keys that it must have: they follow from how the address is made.

/** The scopes of addresses: the address itself, IPv6 by its /64, and a network that is derived of it. */
export interface AddressKeys {
  readonly address: string;
  readonly network: string;
}

export interface Address extends AddressKeys {
  /** As a caller gives it. */
  readonly given: string;
}

/** The n-th address, n from 0 to 100,000. Some share a network, and some of IPv6 a /64. */
export function addressOf(n: number): Address {
  const place = Math.floor(n / 2);
  if (n % 2 === 0) {
    const network = `10.${(place >> 10) & 255}.${(place >> 2) & 255}`;
    const address = `${network}.${1 + (place & 3)}`;
    const given = n % 6 === 0 ? `::ffff:${address}` : address;
    return { given, address, network: `${network}.0/24` };
  }
  const network = `2001:db8:${(1 + (place >> 3)).toString(16)}`;
  const subnet = `${network}:${1 + ((place >> 1) & 3)}::`;
  return {
    given: `${subnet}${1 + (place & 1)}`.toUpperCase(),
    address: `${subnet}/64`,
    network: `${network}::/48`,
  };
}

/** The n-th address whose network no other address has. */
export function loneAddress(n: number): Address {
  const network = `2001:${(0x1000 + (n >> 15)).toString(16)}:${(1 + (n & 0x7fff)).toString(16)}`;
  return { given: `${network}::1`, address: `${network}::/64`, network: `${network}::/48` };
}

/** An address in a network. */
export function addressIn(network: string): string {
  return network.replace(/0\/24$/, '1').replace(/\/48$/, '1');
}
