// The keys of a round of a RuleLimiter: pools of keys that come again, and fresh ones.

import type { Random } from '../test/support/random.js';
import { type Address, addressOf, loneAddress } from './addresses.js';
import { FreshKeys, poolOfKeys } from './keys.js';
import type { RuleQuery } from './model/rule-answers.js';

type Keys = RuleQuery['keys'];

export class RuleRoundKeys {
  readonly pool: readonly string[];
  readonly #random: Random;
  readonly #addressPool: readonly Address[];
  /** By the text that is given, or by the key of the scope. */
  readonly #addresses = new Map<string, Address>();
  readonly #freshKeys: FreshKeys;

  constructor(random: Random) {
    this.#random = random;
    this.pool = poolOfKeys(random);
    const addresses = random.pick([3, 40, 400]);
    this.#addressPool = Array.from({ length: addresses }, (_, n) => this.#known(addressOf(n)));
    this.#freshKeys = new FreshKeys(random);
  }

  /** The number of keys so far, without addresses. */
  get count(): number {
    return this.pool.length + this.#freshKeys.count;
  }

  /** The keys that come again, by scope, as a caller gives them. */
  get pools(): Readonly<Record<string, readonly string[]>> {
    const address = this.#addressPool.map(({ given }) => given);
    return { connection: this.pool, account: this.pool, address };
  }

  /** A key of a scope, as a caller gives it. */
  anyGiven(scope: string): string {
    const random = this.#random;
    return scope === 'address' ? random.pick(this.#addressPool).given : random.pick(this.pool);
  }

  /** The key of a scope, as statistics list it. */
  readonly anyKey = (scope: string): string => {
    if (scope !== 'address' && scope !== 'network') return this.#random.pick(this.pool);
    return this.#random.pick(this.#addressPool)[scope];
  };

  /** A key that no call has named before, as a caller gives it. */
  fresh(scope: string): string {
    const key = this.#freshKeys.next();
    return scope === 'address' ? this.#known(loneAddress(this.#freshKeys.count)).given : key;
  }

  /** Ends the life of a fresh key. */
  forget(fresh: string): void {
    this.#addresses.delete(fresh);
  }

  /** The keys of all scopes. */
  readonly resolved = (keys: Keys): Keys => {
    const { address } = keys;
    if (address === undefined) return keys;
    const { address: own, network } = this.#addresses.get(address) as Address;
    return { ...keys, address: own, network };
  };

  #known(address: Address): Address {
    this.#addresses.set(address.given, address);
    return address;
  }
}
