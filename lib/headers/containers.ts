// Reads fields from any container for them: of fetch, Node, undici and tests.

import { invalidValue } from '../common/errors.js';
import { hasMethods, isArray, isRecord } from '../common/kinds.js';

/**
 * The fields of a response: a `Headers` object of any implementation of fetch, a Map, a record, an array of pairs, or
 * the flat array of names and values that Node calls `rawHeaders`. Names may be in any case.
 */
export type ResponseHeaders =
  | Pick<Headers, 'get'>
  | ReadonlyMap<string, string | readonly string[]>
  | Readonly<Record<string, string | readonly string[] | undefined>>
  | readonly (readonly [name: string, value: string])[]
  | readonly string[];

/** Calls its argument with the name and the value of each field. */
type ForEachField = (add: (name: unknown, value: unknown) => void) => void;

/**
 * Returns the values of those fields whose names are in `names`, by their names in lower case, with their lines joined.
 * @throws ERR_LIMITER_OPTION if `headers` is not a container for fields
 */
export function collectFields(
  headers: ResponseHeaders,
  names: ReadonlySet<string>,
): Map<string, string> {
  const values = new Map<string, string>();
  fieldsOf(
    headers,
    names,
  )((name, value) => {
    if (typeof name !== 'string') throw invalidHeaders(headers);
    const key = names.has(name) ? name : name.toLowerCase();
    if (!names.has(key)) return;
    if (Array.isArray(value)) for (const line of value) addLine(values, key, line);
    else addLine(values, key, value);
  });
  return values;
}

function addLine(values: Map<string, string>, key: string, line: unknown): void {
  if (typeof line !== 'string' && typeof line !== 'number') return;
  const previous = values.get(key);
  values.set(key, previous === undefined ? String(line) : `${previous}, ${line}`);
}

/** Returns an object with the method `get` of `Headers`, which finds the fields of any container. */
export function headersOf(headers: ResponseHeaders): Pick<Headers, 'get'> {
  if (hasMethods(headers, 'get') && !hasMethods(headers, 'get', 'entries')) {
    return headers as Pick<Headers, 'get'>;
  }
  return {
    get(name) {
      const key = name.toLowerCase();
      return collectFields(headers, new Set([key])).get(key) ?? null;
    },
  };
}

function fieldsOf(headers: unknown, names: ReadonlySet<string>): ForEachField {
  if (isArray(headers)) return (add) => forEachInArray(headers, add);
  // Before `get` alone, because that of a Map distinguishes upper and lower case, and that of Headers checks each name.
  if (hasMethods(headers, 'get', 'entries')) {
    const fields = headers as ReadonlyMap<unknown, unknown>;
    return (add) => {
      for (const [name, value] of fields.entries()) add(name, value);
    };
  }
  if (hasMethods(headers, 'get')) {
    const fields = headers as Pick<Headers, 'get'>;
    return (add) => names.forEach((name) => void add(name, fields.get(name)));
  }
  if (!isRecord(headers)) throw invalidHeaders(headers);
  return (add) => {
    for (const name of Object.keys(headers)) {
      const value = headers[name];
      // Otherwise a whole response would be taken for its headers, and nothing be found in it.
      if (typeof value === 'object' && value !== null && !isArray(value)) {
        throw invalidHeaders(headers);
      }
      add(name, value);
    }
  };
}

/** Reads pairs, or names and values that alternate. */
function forEachInArray(
  items: readonly unknown[],
  add: (name: unknown, value: unknown) => void,
): void {
  if (items.every(isArray)) {
    for (const [name, value] of items) add(name, value);
    return;
  }
  const isRaw = items.length % 2 === 0 && items.every((item) => typeof item === 'string');
  if (!isRaw) throw invalidHeaders(items);
  for (let index = 0; index < items.length; index += 2) add(items[index], items[index + 1]);
}

function invalidHeaders(given: unknown): Error {
  const accepted =
    'a Headers object, a record or an array of pairs (or a Map, or rawHeaders of Node)';
  return invalidValue('ERR_LIMITER_OPTION', 'headers', given, accepted);
}
