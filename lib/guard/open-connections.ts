// Counts the open connections of a server: of each address, of each network, and of all.

import { keyWithin, type Subnets } from '../address/address-key.js';
import type { ClientAddress } from './connection-context.js';

/** The most connections that may be open at once; Infinity: no limit. */
export interface OpenLimits {
  readonly maxPerAddress: number;
  readonly maxPerNetwork: number;
  readonly maxPerServer: number;
  /** The size of the networks. */
  readonly network: Subnets;
}

export class OpenConnections {
  readonly #limits: OpenLimits;
  readonly #addresses = new Counts();
  readonly #networks = new Counts();
  #all = 0;

  constructor(limits: OpenLimits) {
    this.#limits = limits;
  }

  /** Whether one more connection of a client is within all limits. */
  hasRoom(client: ClientAddress): boolean {
    const { maxPerAddress, maxPerNetwork, maxPerServer } = this.#limits;
    if (this.#all >= maxPerServer || this.#addresses.of(client.key) >= maxPerAddress) return false;
    const network = this.#networkOf(client);
    return network === undefined || this.#networks.of(network) < maxPerNetwork;
  }

  add(client: ClientAddress): void {
    this.#change(client, 1);
  }

  remove(client: ClientAddress): void {
    this.#change(client, -1);
  }

  #change(client: ClientAddress, by: 1 | -1): void {
    this.#all += by;
    this.#addresses.change(client.key, by);
    const network = this.#networkOf(client);
    if (network !== undefined) this.#networks.change(network, by);
  }

  /** Undefined if networks are not limited, and for a client without an address. */
  #networkOf({ address }: ClientAddress): string | undefined {
    const { maxPerNetwork, network } = this.#limits;
    return maxPerNetwork === Infinity ? undefined : keyWithin(address, network);
  }
}

/** Numbers by key. A key with the number 0 is not stored. */
class Counts {
  readonly #counts = new Map<string, number>();

  of(key: string): number {
    return this.#counts.get(key) ?? 0;
  }

  change(key: string, by: 1 | -1): void {
    const count = this.of(key) + by;
    if (count > 0) this.#counts.set(key, count);
    else this.#counts.delete(key);
  }
}
