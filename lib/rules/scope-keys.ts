// ScopeKeys turns the keys that a caller gives into the keys of all scopes: it validates them, normalizes addresses,
// derives networks, and finds them on allow and deny lists.

import { bitsOf } from '../address/address.js';
import { networkText } from '../address/address-key.js';
import { invalidValue, limiterError, show } from '../common/errors.js';
import { isRecord } from '../common/kinds.js';
import { detachString } from '../common/strings.js';
import { type Network, readNetwork } from './networks.js';
import type { Lists, ScopeSpec } from './sections.js';
import type { Keys } from './types.js';

/** The result of the lists for some keys: allowed, or the index of the scope that denies. Undefined: on no list. */
export const ON_ALLOW_LIST = -1;
export type Listed = number | undefined;

export class ScopeKeys {
  readonly #scopes: readonly ScopeSpec[];
  readonly #indexes: ReadonlyMap<string, number>;
  /** The scopes with addresses; undefined for the others. */
  readonly #addresses: readonly (AddressScope | undefined)[];
  /** The scope of a key that is given as a string; undefined unless there is exactly one such scope. */
  readonly #only: ScopeSpec | undefined;
  /** The bits of the single scopes. */
  readonly #singles: number;
  #allow: Lists = [];
  #deny: Lists = [];
  #hasLists = false;

  /** The keys of the last `resolve`, by scope. */
  readonly keys: (string | undefined)[];

  constructor(scopes: readonly ScopeSpec[]) {
    this.#scopes = scopes;
    this.#indexes = new Map(scopes.map(({ name, index }) => [name, index]));
    this.#addresses = scopes.map((scope) =>
      scope.kind === 'address' ? new AddressScope(scope, scopes) : undefined,
    );
    const keyed = scopes.filter(({ kind }) => kind === 'text' || kind === 'address');
    this.#only = keyed.length === 1 ? keyed[0] : undefined;
    this.#singles = scopes.reduce(
      (bits, { kind, index }) => (kind === 'single' ? bits | (1 << index) : bits),
      0,
    );
    this.keys = scopes.map(() => undefined);
  }

  setLists(allow: Lists, deny: Lists): void {
    this.#allow = allow;
    this.#deny = deny;
    const isListed = (scope: number) => allow[scope] !== undefined || deny[scope] !== undefined;
    this.#hasLists = this.#scopes.some(({ index }) => isListed(index));
    for (const address of this.#addresses) address?.setLists(isListed);
  }

  /**
   * Reads the keys by scope into `values`. Getters of the caller run here, and may call the limiter again.
   * @throws `ERR_LIMITER_KEY` for anything but keys, an unknown scope, and one that is single or derived.
   */
  read(given: Keys | string, values: unknown[]): void {
    const scopes = this.#scopes;
    if (typeof given === 'string') {
      if (this.#only === undefined) throw this.#invalidKeys(given);
      for (let i = 0; i < scopes.length; i += 1) values[i] = undefined;
      values[this.#only.index] = given;
      return;
    }
    this.#requireNames(given);
    for (let i = 0; i < scopes.length; i += 1) {
      const scope = scopes[i] as ScopeSpec;
      const key = given[scope.name];
      const hasOwnKey = scope.kind === 'text' || scope.kind === 'address';
      if (key !== undefined && !hasOwnKey) throw this.#ownKey(scope);
      values[i] = key;
    }
  }

  /**
   * Fills `keys` with the keys of all scopes, and returns a bit for each scope that has a key or is single. Allocates
   * nothing if all keys are texts or plain IPv4 addresses, no network is derived of them, and no list has addresses.
   * @throws `ERR_LIMITER_KEY`
   */
  resolve(values: readonly unknown[]): number {
    let mask = this.#singles;
    const scopes = this.#scopes;
    for (let i = 0; i < scopes.length; i += 1) {
      const key = values[i];
      if (key !== undefined) mask |= this.#put(scopes[i] as ScopeSpec, key);
    }
    return mask;
  }

  /** Forgets `keys`, so that they do not keep in memory what a caller cut them from. */
  forget(): void {
    for (let i = 0; i < this.keys.length; i += 1) this.keys[i] = undefined;
  }

  /** Whether the keys of the last `resolve` are on a list. */
  listed(mask: number): Listed {
    if (!this.#hasLists) return undefined;
    if (this.#find(this.#allow, mask) !== undefined) return ON_ALLOW_LIST;
    return this.#find(this.#deny, mask);
  }

  /** The index of a scope with keys. @throws `ERR_LIMITER_KEY` for an unknown one, `ERR_LIMITER_OPTION` for a single one. */
  indexOf(name: unknown): number {
    const index = this.#indexes.get(name as string);
    if (index === undefined) throw this.#unknownScope(name);
    if ((this.#scopes[index] as ScopeSpec).kind !== 'single') return index;
    const message = `a scope must have keys, got ${show(name)}, which is single`;
    throw limiterError(TypeError, 'ERR_LIMITER_OPTION', message);
  }

  /** The key of one scope, derived ones too, from a text, an address or a network. @throws `ERR_LIMITER_KEY` */
  keyOf(index: number, given: unknown): string {
    const scope = this.#scopes[index] as ScopeSpec;
    if (typeof given !== 'string') throw invalidKey(scope, given);
    if (scope.kind === 'text') return given;
    const network = readNetwork(given);
    if (network === undefined) throw invalidKey(scope, given);
    return keyIn(scope, network);
  }

  /** Calls `use` with each scope and key of `given`; derived scopes may be named too. @throws `ERR_LIMITER_KEY` */
  each(given: Keys | string, use: (scope: number, key: string) => void): void {
    if (typeof given === 'string') {
      if (this.#only === undefined) throw this.#invalidKeys(given);
      use(this.#only.index, this.keyOf(this.#only.index, given));
      return;
    }
    this.#requireNames(given);
    const pairs: [number, string][] = [];
    for (const { name } of this.#scopes) {
      const key = given[name];
      if (key === undefined) continue;
      const index = this.indexOf(name);
      pairs.push([index, this.keyOf(index, key)]);
    }
    for (const [index, key] of pairs) use(index, key);
  }

  /** Names that an object only inherits may be unknown: somebody may have extended Object.prototype. */
  #requireNames(given: Keys): void {
    if (!isRecord(given)) throw this.#invalidKeys(given);
    for (const name in given) {
      if (!this.#indexes.has(name) && Object.hasOwn(given, name)) throw this.#unknownScope(name);
    }
  }

  #put(scope: ScopeSpec, key: unknown): number {
    const { kind, index } = scope;
    if (typeof key !== 'string') throw invalidKey(scope, key);
    if (kind === 'text') {
      this.keys[index] = key;
      return 1 << index;
    }
    const address = this.#addresses[index] as AddressScope;
    this.keys[index] = address.read(key);
    let bits = 1 << index;
    for (let i = 0; i < address.derived.length; i += 1) {
      const derived = (address.derived[i] as ScopeSpec).index;
      this.keys[derived] = address.derivedKeys[i];
      bits |= 1 << derived;
    }
    return bits;
  }

  #find(lists: Lists, mask: number): Listed {
    for (let i = 0; i < lists.length; i += 1) {
      const list = lists[i];
      if (list === undefined || (mask & (1 << i)) === 0) continue;
      const { kind, from } = this.#scopes[i] as ScopeSpec;
      const isListed =
        kind === 'text'
          ? list.texts.has(this.keys[i] as string)
          : list.networks.has(
              (this.#addresses[kind === 'address' ? i : from] as AddressScope).network,
            );
      if (isListed) return i;
    }
    return undefined;
  }

  #invalidKeys(given: unknown): Error {
    const names = this.#keyedNames();
    const accepted =
      this.#only === undefined
        ? `an object by names of scopes: ${names}`
        : `a string, or an object by names of scopes: ${names}`;
    return invalidValue('ERR_LIMITER_KEY', 'keys', given, accepted);
  }

  #unknownScope(name: unknown): Error {
    return invalidValue('ERR_LIMITER_KEY', 'a scope', name, `one of ${this.#keyedNames()}`);
  }

  #ownKey({ name, kind }: ScopeSpec): Error {
    const why = kind === 'single' ? 'one bucket for everybody' : 'derived from an address';
    const message = `keys must not have the scope ${show(name)}, which is ${why}`;
    return limiterError(TypeError, 'ERR_LIMITER_KEY', message);
  }

  #keyedNames(): string {
    return this.#scopes
      .filter(({ kind }) => kind !== 'single')
      .map(({ name }) => name)
      .join(', ');
  }
}

/** Reads the keys of a scope of addresses, and remembers the last one. */
class AddressScope {
  /** The scopes whose keys are derived from this one, and their last keys. */
  readonly derived: readonly ScopeSpec[];
  readonly derivedKeys: string[] = [];
  network: Network = { address: [0], bits: 32 };
  readonly #scope: ScopeSpec;
  /** Whether `read` must set `network`, for derived keys or a list. */
  #needsNetwork = true;
  #text = '';
  #key = '';

  constructor(scope: ScopeSpec, scopes: readonly ScopeSpec[]) {
    this.#scope = scope;
    this.derived = scopes.filter(({ kind, from }) => kind === 'derived' && from === scope.index);
  }

  /** `isListed` says whether a scope is on a list. */
  setLists(isListed: (scope: number) => boolean): void {
    const { derived } = this;
    this.#needsNetwork = derived.length > 0 || isListed(this.#scope.index);
  }

  /** @throws `ERR_LIMITER_KEY` unless the text is an address or a network. */
  read(text: string): string {
    if (!this.#needsNetwork && this.#scope.ipv4Subnet === 32 && isPlainIPv4(text)) return text;
    if (text === this.#text && text !== '') return this.#key;
    const network = readNetwork(text);
    if (network === undefined) throw invalidKey(this.#scope, text);
    this.network = network;
    this.#key = keyIn(this.#scope, network);
    for (const [i, scope] of this.derived.entries()) this.derivedKeys[i] = keyIn(scope, network);
    this.#text = detachString(text);
    return this.#key;
  }
}

/** The key of an address in a scope: that of its network, or the network itself if it is larger. */
function keyIn({ ipv4Subnet, ipv6Subnet }: ScopeSpec, { address, bits }: Network): string {
  const subnet = bitsOf(address) === 32 ? ipv4Subnet : ipv6Subnet;
  return networkText(address, Math.min(subnet, bits));
}

const DOT = 46;
const ZERO = 48;

/** Whether a text is an IPv4 address without leading zeros, as `net.Socket` gives it. */
function isPlainIPv4(text: string): boolean {
  if (text.length > 15) return false;
  let dots = 0;
  let value = -1;
  for (let i = 0; i < text.length; i += 1) {
    const code = text.charCodeAt(i);
    if (code === DOT && value >= 0) {
      dots += 1;
      value = -1;
    } else {
      const digit = code - ZERO;
      if (digit < 0 || digit > 9 || value === 0) return false;
      value = value < 0 ? digit : value * 10 + digit;
      if (value > 255) return false;
    }
  }
  return dots === 3 && value >= 0;
}

function invalidKey(scope: ScopeSpec, given: unknown): Error {
  const accepted = scope.kind === 'text' ? 'a string' : 'an IPv4 or IPv6 address, or a network';
  return invalidValue('ERR_LIMITER_KEY', `a key of the scope ${show(scope.name)}`, given, accepted);
}
