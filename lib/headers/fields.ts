// The fields of a response by name, whatever holds them, and how much of each is read.

import { refused } from '../common/errors.js';
import { isRevoked } from '../common/kinds.js';

/** Fields as fetch, Node, undici and tests have them. Names are in any case. */
export type ResponseHeaders =
  | Pick<Headers, 'get'>
  | Readonly<Record<string, string | readonly string[] | undefined>>
  | readonly (readonly [name: string, value: string])[];

/** A longer field is ignored: all of it has to be read before its items can be counted. */
const MOST_CHARACTERS = 4_096;
/** Of more items in a field the rest is ignored. */
const MOST_ITEMS = 64;

/** Reads fields, and keeps the names of those that could not be read. */
export class FieldReader {
  readonly ignored: string[] = [];
  readonly strict: boolean;
  readonly #valueOf: (name: string) => unknown;

  /** @throws ERR_LIMITER_OPTION where `headers` is nothing that holds fields. */
  constructor(headers: ResponseHeaders, strict: boolean) {
    this.strict = strict;
    this.#valueOf = valuesOf(headers);
  }

  /** A field's value; null where there is none. */
  value(name: string): string | null {
    const value = this.#valueOf(name);
    return typeof value === 'string' ? value.trim() : null;
  }

  /** What `parse` makes of a field; null where there is none, or where `parse` answers null. */
  read<T>(name: string, parse: (text: string) => T | null): T | null {
    const value = this.value(name);
    if (value === null) return null;
    const parsed = value.length > MOST_CHARACTERS ? null : parse(value);
    if (parsed === null) this.ignored.push(name);
    return parsed;
  }

  /**
   * What `parse` makes of the items of a field. One that it answers null for is left out; where the
   * reader is strict, or nothing of the field is left, the field is.
   */
  items<M, T>(
    name: string,
    members: readonly M[],
    parse: (member: M, strict: boolean) => T | null,
    nothingElse = true,
  ): T[] {
    const items: T[] = [];
    for (const member of members.slice(0, MOST_ITEMS)) {
      const item = parse(member, this.strict);
      if (item !== null) items.push(item);
    }
    if (items.length === members.length) return items;
    const whole = this.strict || (nothingElse && items.length === 0);
    this.ignored.push(whole ? name : `${name}[item]`);
    return whole ? [] : items;
  }
}

/** The value of a field by its lower-case name, its lines joined. */
function valuesOf(headers: ResponseHeaders): (name: string) => unknown {
  if (typeof headers !== 'object' || headers === null || isRevoked(headers)) {
    const accepted = 'a Headers object, a record or an array of pairs';
    throw refused('ERR_LIMITER_OPTION', 'headers', headers, accepted);
  }
  if ('get' in headers && typeof headers.get === 'function') {
    const fields = headers as Pick<Headers, 'get'>;
    return (name) => fields.get(name);
  }
  const values = new Map<string, string>();
  for (const [name, lines] of Array.isArray(headers) ? headers : Object.entries(headers)) {
    const key = String(name).toLowerCase();
    for (const line of Array.isArray(lines) ? lines : [lines]) {
      if (typeof line !== 'string' && typeof line !== 'number') continue;
      const before = values.get(key);
      values.set(key, before === undefined ? String(line) : `${before}, ${line}`);
    }
  }
  return (name) => values.get(name);
}
