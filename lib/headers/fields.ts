// Reads the fields of a response by name, and bounds how much of each is read.

import { collectFields, type ResponseHeaders } from './containers.js';

/** A longer field is ignored, because a field must be read whole before its items can be counted. */
const MAX_CHARACTERS = 4_096;
/** Further items of a field are ignored. */
const MAX_ITEMS = 64;

/** Reads fields and collects the names of those that are invalid. */
export class FieldReader {
  readonly ignored: string[] = [];
  readonly isStrict: boolean;
  readonly #values: ReadonlyMap<string, string>;

  /**
   * @param names the names of all fields that may be read, in lower case
   * @throws ERR_LIMITER_OPTION if `headers` is not a container for fields
   */
  constructor(headers: ResponseHeaders, names: ReadonlySet<string>, isStrict: boolean) {
    this.#values = collectFields(headers, names);
    this.isStrict = isStrict;
  }

  /** Whether the response has fields besides those with these names. */
  hasOthersThan(names: readonly string[]): boolean {
    let others = this.#values.size;
    for (const name of names) if (this.#values.has(name)) others -= 1;
    return others > 0;
  }

  /** Returns the names of the fields found. */
  names(): Iterable<string> {
    return this.#values.keys();
  }

  /** Returns a field's value; null if the field is absent. */
  value(name: string): string | null {
    return this.#values.get(name)?.trim() ?? null;
  }

  /** Returns a field's value, parsed; null if the field is absent or empty, or if `parse` returns null. */
  read<T>(name: string, parse: (text: string) => T | null): T | null {
    const value = this.value(name);
    if (value === null) return null;
    const canParse = value !== '' && value.length <= MAX_CHARACTERS;
    const parsed = canParse ? parse(value) : null;
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
    if (members.length === 0) return items;
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
