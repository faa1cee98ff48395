// Structured Fields (RFC 9651) by the package structured-headers, and what it leaves to be done.

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

/** Null for what is no List, no Dictionary, no Item. */
export const list = orNull(parseList);
export const dictionary = orNull(parseDictionary);
export const item = orNull(parseItem);

function orNull<T>(parse: (text: string) => T): (text: string) => T | null {
  return (text) => {
    try {
      return parse(AWKWARD.test(text) ? text.replace(AWKWARD_OR_QUOTED, wrap) : text);
    } catch {
      return null;
    }
  };
}

// Version 2.1.0 takes a Date only at the very end of a field, and gives 10.0, a Decimal, as the Integer
// 10. Both are handed to it as Display Strings, which are wanted nowhere, and told by their looks
// afterwards. Strings stay as they are; one that does not end takes the rest, so that all is read once.
const AWKWARD = /@|\.0/;
const AWKWARD_OR_QUOTED =
  /%"[^"]*"?|"(?:\\.|[^"\\])*"?|(?<=[=,( \t]|^)(?:@-?\d{1,15}|-?\d{1,12}\.0{1,3})(?=[;,) \t]|$)/g;
const WRAPPED_DATE = /^@-?\d+$/;
const WRAPPED_DECIMAL = /^-?\d+\.0+$/;

function wrap(piece: string): string {
  return piece.includes('"') ? piece : `%"${piece}"`;
}

/** An item as users get it: a string, a number, a boolean or a Date; bytes in canonical base64. */
export function plain(value: BareItem): string | number | boolean | Date {
  if (value instanceof ArrayBuffer) return arrayBufferToBase64(value);
  if (value instanceof Token) return value.toString();
  if (!(value instanceof DisplayString)) return value as string | number | boolean | Date;
  const text = value.toString();
  if (WRAPPED_DATE.test(text)) return new Date(Number(text.slice(1)) * 1000);
  return WRAPPED_DECIMAL.test(text) ? Number(text) : text;
}

/** An Item's value where that is a count; null for anything else. */
export function countOfItem(text: string): number | null {
  return count(item(text)?.[0]);
}

/** Null for what is no count. The Integer -0 is 0. */
export function count(value: unknown): number | null {
  return isCount(value) ? value + 0 : null;
}

/** A non-negative Integer. */
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
