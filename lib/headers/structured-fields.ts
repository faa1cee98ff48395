// Structured Fields (RFC 9651), parsed by the package structured-headers, with the corrections that its version
// 2.1.0 needs.

import {
  arrayBufferToBase64,
  type BareItem,
  DisplayString,
  type InnerList,
  type Item,
  parseDictionary,
  parseItem,
  parseList,
  Token,
} from 'structured-headers';

export type Member = Item | InnerList;
export type Parameters = Member[1];

// Each returns null for text that is not a valid List, Dictionary or Item.
export const readList = (text: string) => readSimpleList(text) ?? readAnyList(text);
const readAnyList = nullOnError(parseList);
export const readDictionary = nullOnError(parseDictionary);
const readItem = nullOnError(parseItem);

const NOT_ASCII = /[\u0080-\uffff]/;

function nullOnError<T>(parse: (text: string) => T): (text: string) => T | null {
  return (text) => {
    // RFC 9651, 4.2: a field is ASCII. The package reads another character of a Display String as its last byte.
    if (NOT_ASCII.test(text)) return null;
    try {
      return parse(NEEDS_CORRECTION.test(text) ? text.replace(WRAPPED_OR_QUOTED, correct) : text);
    } catch {
      return null;
    }
  };
}

// Nearly all lists of limits are Strings with Integers as parameters. Those need no parser. Each match
// ends before the next String or at the end.
const SIMPLE_MEMBER =
  /"([ !#-[\]-~]*)"((?:; *[a-z*][a-z0-9_\-.*]*=\d{1,15})*)(?:[ \t]*,[ \t]*(?=")|$)/y;

/** Returns a list of Strings whose parameters are Integers of at least 0; null for any other text. */
function readSimpleList(text: string): Member[] | null {
  const members: Member[] = [];
  for (let at = 0; at < text.length; at = SIMPLE_MEMBER.lastIndex) {
    SIMPLE_MEMBER.lastIndex = at;
    const [, name, rest] = SIMPLE_MEMBER.exec(text) ?? [];
    if (name === undefined || rest === undefined) return null;
    const parameters: Parameters = new Map();
    for (let from = rest.indexOf(';'); from >= 0; ) {
      const equals = rest.indexOf('=', from);
      const next = rest.indexOf(';', equals);
      const value = rest.slice(equals + 1, next < 0 ? undefined : next);
      parameters.set(rest.slice(from + 1, equals).trimStart(), Number(value));
      from = next;
    }
    members.push([name, parameters]);
  }
  return members;
}

// structured-headers 2.1.0 accepts a Date only at the very end of a field, and returns 10.0, which is a Decimal,
// as the Integer 10. So both are wrapped as Display Strings, which no field uses, and recognized by their text
// afterwards. It also drops a byte order mark at the beginning of a Display String, so the mark is doubled. Strings
// are left unchanged; an unterminated String matches up to the end, so that the text is scanned only once.
const NEEDS_CORRECTION = /@|\.0|%"%ef%bb%bf/;
const WRAPPED_OR_QUOTED =
  /%"[^"]*"?|"(?:\\.|[^"\\])*"?|(?<=[=,( \t]|^)(?:@-?\d{1,15}|-?\d{1,12}\.0{1,3})(?=[;,) \t]|$)/g;
const MARKED = /^%"(?=%ef%bb%bf)/;
const WRAPPED_DATE = /^@-?\d+$/;
const WRAPPED_DECIMAL = /^-?\d+\.0+$/;

function correct(piece: string): string {
  return piece.includes('"') ? piece.replace(MARKED, '%"%ef%bb%bf') : `%"${piece}"`;
}

/** Converts a bare item to a string, number, boolean or Date; bytes become canonical base64. */
export function toPlainValue(value: BareItem): string | number | boolean | Date {
  if (value instanceof ArrayBuffer) return arrayBufferToBase64(value);
  if (value instanceof Token) return value.toString();
  if (!(value instanceof DisplayString)) return value as string | number | boolean | Date;
  const text = value.toString();
  if (WRAPPED_DATE.test(text)) return new Date(Number(text.slice(1)) * 1000);
  return WRAPPED_DECIMAL.test(text) ? Number(text) : text;
}

/** Returns the value of an Item; null unless it is a non-negative Integer. */
export function readCount(text: string): number | null {
  return toCount(readItem(text)?.[0]);
}

/** Returns the value; null unless it is a non-negative Integer. The Integer -0 becomes 0. */
export function toCount(value: unknown): number | null {
  return isCount(value) ? value + 0 : null;
}

/** Whether the value is a non-negative Integer. */
export function isCount(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) >= 0;
}

export function isPositive(value: unknown): boolean {
  return isCount(value) && value > 0;
}

export function isString(value: unknown): boolean {
  return typeof value === 'string';
}

export function isBytes(value: unknown): boolean {
  return value instanceof ArrayBuffer;
}
