// AddressList: addresses and networks in sorted ranges. A look-up is a binary search, O(log n).

import {
  type Address,
  bitsOf,
  firstOf,
  lastOf,
  readAddress,
  untranslated,
} from '../address/address.js';

/** An address, or a network if not all bits count. */
export interface Network {
  readonly address: Address;
  readonly bits: number;
}

/** Reads an address or a network such as `10.0.0.0/8`. Undefined if it is neither. */
export function readNetwork(text: unknown): Network | undefined {
  if (typeof text !== 'string') return undefined;
  const slash = text.lastIndexOf('/');
  const read = readAddress(slash === -1 ? text : text.slice(0, slash));
  if (read === undefined) return undefined;
  // Two colons: IPv6, also if it is an IPv4-mapped address, which has been read as IPv4.
  const total = /:.*:/.test(text) ? 128 : bitsOf(read);
  const prefix = slash === -1 ? total : prefixOf(text.slice(slash + 1));
  // With 0 bits the network would be all addresses: hardly ever what is meant.
  if (prefix === undefined || prefix < 1 || prefix > total) return undefined;
  const address = untranslated(read);
  const bits = prefix - (total - bitsOf(address));
  if (bits >= 1) return { address, bits };
  // It has all addresses of IPv4: a network of IPv6 if they are translated, and none if they are mapped.
  return bitsOf(read) === 128 ? { address: read, bits: prefix } : undefined;
}

function prefixOf(text: string): number | undefined {
  return /^\d{1,3}$/.test(text) ? Number(text) : undefined;
}

interface Range {
  readonly first: Address;
  readonly last: Address;
}

/** A set of addresses, given as networks. IPv4 and IPv6 are apart. */
export class AddressList {
  readonly #ipv4: readonly Range[];
  readonly #ipv6: readonly Range[];

  constructor(networks: readonly Network[]) {
    const ranges = networks.map(rangeOf);
    this.#ipv4 = merged(ranges.filter(({ first }) => first.length === 1));
    this.#ipv6 = merged(ranges.filter(({ first }) => first.length === 4));
  }

  /** Whether all addresses of a network are in the set. */
  has(network: Network): boolean {
    const { first, last } = rangeOf(network);
    const ranges = first.length === 1 ? this.#ipv4 : this.#ipv6;
    let low = 0;
    let high = ranges.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (compare((ranges[middle] as Range).first, first) <= 0) low = middle + 1;
      else high = middle;
    }
    const range = ranges[low - 1];
    return range !== undefined && compare(last, range.last) <= 0;
  }
}

function rangeOf({ address, bits }: Network): Range {
  return { first: firstOf(address, bits), last: lastOf(address, bits) };
}

/** Sorts ranges, and joins those that overlap or follow each other without a gap. */
function merged(ranges: readonly Range[]): Range[] {
  const result: Range[] = [];
  for (const range of [...ranges].sort((a, b) => compare(a.first, b.first))) {
    const before = result.at(-1);
    if (before === undefined || compare(range.first, next(before.last)) > 0) result.push(range);
    else if (compare(range.last, before.last) > 0) {
      result[result.length - 1] = { first: before.first, last: range.last };
    }
  }
  return result;
}

/** The next address; the last one of all stays. */
function next(address: Address): Address {
  const words = [...address];
  for (let i = words.length - 1; i >= 0; i -= 1) {
    const word = (words[i] as number) + 1;
    if (word < 2 ** 32) {
      words[i] = word;
      return words;
    }
    words[i] = 0;
  }
  return address;
}

/** Below 0 if `a` comes before `b`. */
function compare(a: Address, b: Address): number {
  for (let i = 0; i < a.length; i += 1) {
    const difference = (a[i] as number) - (b[i] as number);
    if (difference !== 0) return difference;
  }
  return 0;
}
