// ScopeKeys turns the keys that a caller gives into the keys of all scopes: it validates them, normalizes addresses,
// derives networks, and finds them on allow and deny lists.

import { bitsOf } from '../address/address.js';
import { networkText } from '../address/address-key.js';
import { invalidValue, limiterError, show } from '../common/errors.js';
import { isRecord, isRevoked } from '../common/kinds.js';
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
  /** Its index, or -1. */
  readonly #onlyIndex: number;
  /** A bit for each scope that is single, has texts as keys, or has keys of its own. */
  readonly #singles: number;
  readonly #texts: number;
  readonly #owned: number;
  readonly #names: readonly string[];
  #allow: Lists = [];
  #deny: Lists = [];
  #hasLists = false;

  constructor(scopes: readonly ScopeSpec[]) {
    this.#scopes = scopes;
    this.#indexes = new Map(scopes.map(({ name, index }) => [name, index]));
    this.#addresses = scopes.map((scope) =>
      scope.kind === 'address' ? new AddressScope(scope, scopes) : undefined,
    );
    const keyed = scopes.filter(({ kind }) => kind === 'text' || kind === 'address');
    this.#only = keyed.length === 1 ? keyed[0] : undefined;
    this.#onlyIndex = this.#only?.index ?? -1;
    this.#singles = scopeBits(scopes, ({ kind }) => kind === 'single');
    this.#texts = scopeBits(scopes, ({ kind }) => kind === 'text');
    this.#owned = scopeBits(keyed, () => true);
    this.#names = scopes.map(({ name }) => name);
  }

  setLists(allow: Lists, deny: Lists): void {
    this.#allow = allow;
    this.#deny = deny;
    const isListed = (scope: number) => allow[scope] !== undefined || deny[scope] !== undefined;
    this.#hasLists = this.#scopes.some(({ index }) => isListed(index));
    for (const address of this.#addresses) address?.setLists(isListed);
  }

  /**
   * Reads the keys by scope into `keys`, all undefined. Getters of the caller run here, and may call the limiter again.
   * @throws `ERR_LIMITER_KEY` for anything but keys, an unknown scope, and one that is single or derived.
   */
  read(given: Keys | string, keys: unknown[]): void {
    if (typeof given === 'string' && this.#onlyIndex >= 0) keys[this.#onlyIndex] = given;
    else this.#readFields(given, keys);
  }

  #readFields(given: Keys | string, keys: unknown[]): void {
    if (typeof given !== 'object' || given === null || isRevoked(given) || Array.isArray(given)) {
      throw this.#invalidKeys(given);
    }
    let found = 0;
    let next = 0;
    for (const name in given) {
      // Most callers name the scopes in the order of declaration. V8 compares names of properties by address.
      const index = name === this.#names[next] ? next : this.#indexIn(given, name);
      if (index === -1) continue;
      const key: unknown = given[name];
      if (key !== undefined && ((this.#owned >> index) & 1) === 0) throw this.#ownKey(index);
      keys[index] = key;
      found |= 1 << index;
      next = index + 1;
    }
    if ((found & this.#owned) !== this.#owned) this.#readOthers(given, found, keys);
  }

  /**
   * Replaces keys as they are given by those of all scopes, and returns a bit for each scope that has a key or is single.
   * Allocates nothing if all keys are texts or plain IPv4 addresses, no network is derived of them, and no list has
   * addresses. @throws `ERR_LIMITER_KEY`
   */
  resolve(keys: (string | undefined)[]): number {
    let mask = this.#singles;
    for (let i = 0; i < keys.length; i += 1) {
      const key: unknown = keys[i];
      if (key === undefined || ((this.#owned >> i) & 1) === 0) continue;
      if (typeof key !== 'string') throw invalidKey(this.#scopes[i] as ScopeSpec, key);
      mask |= (this.#texts >> i) & 1 ? 1 << i : this.#resolveAddress(i, key, keys);
    }
    return mask;
  }

  /** Whether resolved keys are on a list. */
  listed(keys: readonly (string | undefined)[], mask: number): Listed {
    if (!this.#hasLists) return undefined;
    if (this.#find(this.#allow, keys, mask) !== undefined) return ON_ALLOW_LIST;
    return this.#find(this.#deny, keys, mask);
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
    for (const name in given) this.#indexIn(given, name);
  }

  /** The index of a scope; -1 for an unknown name that `given` only inherits. */
  #indexIn(given: Keys, name: string): number {
    const index = this.#indexes.get(name);
    if (index !== undefined) return index;
    if (Object.hasOwn(given, name)) throw this.#unknownScope(name);
    return -1;
  }

  /** Reads the keys that are not enumerable, such as those that getters of a class return. */
  #readOthers(given: Keys, found: number, keys: unknown[]): void {
    if (found === 0 && !isRecord(given)) throw this.#invalidKeys(given);
    for (let i = 0; i < keys.length; i += 1) {
      if (((this.#owned & ~found) >> i) & 1) keys[i] = given[this.#names[i] as string];
    }
  }

  /** Resolves the key of an address and of the scopes derived from it. Returns their bits. */
  #resolveAddress(index: number, key: string, keys: (string | undefined)[]): number {
    const address = this.#addresses[index] as AddressScope;
    keys[index] = address.read(key);
    let bits = 1 << index;
    for (let i = 0; i < address.derived.length; i += 1) {
      const derived = (address.derived[i] as ScopeSpec).index;
      keys[derived] = address.derivedKeys[i];
      bits |= 1 << derived;
    }
    return bits;
  }

  #find(lists: Lists, keys: readonly (string | undefined)[], mask: number): Listed {
    for (let i = 0; i < lists.length; i += 1) {
      const list = lists[i];
      if (list === undefined || (mask & (1 << i)) === 0) continue;
      const { kind, from } = this.#scopes[i] as ScopeSpec;
      const isListed =
        kind === 'text'
          ? list.texts.has(keys[i] as string)
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

  #ownKey(index: number): Error {
    const { name, kind } = this.#scopes[index] as ScopeSpec;
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

/** A bit for each scope that is chosen. */
function scopeBits(scopes: readonly ScopeSpec[], isChosen: (scope: ScopeSpec) => boolean): number {
  return scopes.filter(isChosen).reduce((bits, { index }) => bits | (1 << index), 0);
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
