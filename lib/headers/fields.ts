// Reads the fields of a response by name, from any container for fields, and bounds how much of each is read.

import { invalidValue } from '../common/errors.js';
import { isRevoked } from '../common/kinds.js';

/** The fields of a response as fetch, Node, undici and tests have them. Names may be in any case. */
export type ResponseHeaders =
  | Pick<Headers, 'get'>
  | Readonly<Record<string, string | readonly string[] | undefined>>
  | readonly (readonly [name: string, value: string])[];

/** A longer field is ignored, because a field must be read whole before its items can be counted. */
const MAX_CHARACTERS = 4_096;
/** Further items of a field are ignored. */
const MAX_ITEMS = 64;

/** Reads fields and collects the names of those that are invalid. */
export class FieldReader {
  readonly ignored: string[] = [];
  readonly isStrict: boolean;
  readonly #valueOf: (name: string) => unknown;

  /** @throws ERR_LIMITER_OPTION if `headers` is not a container for fields */
  constructor(headers: ResponseHeaders, isStrict: boolean) {
    this.isStrict = isStrict;
    this.#valueOf = createLookup(headers);
  }

  /** Returns a field's value; null if the field is absent. */
  value(name: string): string | null {
    const value = this.#valueOf(name);
    return typeof value === 'string' ? value.trim() : null;
  }

  /** Returns a field's value, parsed; null if the field is absent or `parse` returns null. */
  read<T>(name: string, parse: (text: string) => T | null): T | null {
    const value = this.value(name);
    if (value === null) return null;
    const parsed = value.length > MAX_CHARACTERS ? null : parse(value);
    if (parsed === null) this.ignored.push(name);
    return parsed;
  }

  /**
   * Returns the parsed items of a field without those for which `parse` returns null. If any item is invalid
   * and the reader is strict, or if all items are invalid and the field has no other content
   * (`isWholeField`), it ignores the whole field.
   */
  items<M, T>(
    name: string,
    members: readonly M[],
    parse: (member: M, isStrict: boolean) => T | null,
    isWholeField = true,
  ): T[] {
    const items: T[] = [];
    for (const member of members.slice(0, MAX_ITEMS)) {
      const item = parse(member, this.isStrict);
      if (item !== null) items.push(item);
    }
    if (items.length === members.length) return items;
    const ignoresField = this.isStrict || (isWholeField && items.length === 0);
    this.ignored.push(ignoresField ? name : `${name}[item]`);
    return ignoresField ? [] : items;
  }
}

/** Returns a function from a lower-case name to the field's value, with its lines joined. */
function createLookup(headers: ResponseHeaders): (name: string) => unknown {
  if (typeof headers !== 'object' || headers === null || isRevoked(headers)) {
    const accepted = 'a Headers object, a record or an array of pairs';
    throw invalidValue('ERR_LIMITER_OPTION', 'headers', headers, accepted);
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
      const previous = values.get(key);
      values.set(key, previous === undefined ? String(line) : `${previous}, ${line}`);
    }
  }
  return (name) => values.get(name);
}
