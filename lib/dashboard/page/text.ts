// Formats keys, numbers and times for people. Peers choose their keys, so keys may contain any character.

/** The numbers of code points that are shown of the beginning and the end of a long key. */
const BEGINNING = 48;
const END = 24;

/**
 * Matches invisible characters: controls, lone surrogates, direction marks, blanks other than a single space between
 * two other characters, and characters that fonts do not draw. Matches backslashes too, which escapes use.
 */
const INVISIBLE =
  /[\p{C}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\u2800]|(?! )\p{Zs}|^ | $|(?<= ) |\\/gu;

/** Escapes a key: invisible characters become `\u{…}`, a backslash two. Different keys have different results. */
export function visible(key: string): string {
  return key.replace(INVISIBLE, (character) => {
    if (character === '\\') return '\\\\';
    return `\\u{${character.codePointAt(0)?.toString(16)}}`;
  });
}

/** The inverse of `visible`. */
export function keyOf(shown: string): string {
  return shown.replace(/\\\\|\\u\{([0-9a-f]{1,6})\}/g, (text, number?: string) => {
    if (number === undefined) return '\\';
    const point = Number.parseInt(number, 16);
    return point <= 0x10ffff ? String.fromCodePoint(point) : text;
  });
}

/**
 * Returns the texts of a key: `short` for a table, `whole` for details. Of a key that the server has truncated, both
 * end with the hash of the whole key.
 */
export function keyText(
  key: string,
  length: number,
  hash?: string,
): { short: string; whole: string } {
  if (key === '') return { short: '(empty)', whole: '(empty)' };
  const text = visible(key);
  const points = [...text];
  const end = hash === undefined ? points.slice(-END).join('') : ` #${hash}`;
  const isLong = hash !== undefined || points.length > BEGINNING + END;
  return {
    short: isLong ? `${points.slice(0, BEGINNING).join('')}…${end}` : text,
    whole: hash === undefined ? text : `${text}… (${count(length)} units) #${hash}`,
  };
}

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const fraction = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });
const compact = new Intl.NumberFormat('en', { notation: 'compact', maximumSignificantDigits: 3 });

/** A count, with all its digits. */
export function count(value: number): string {
  return whole.format(value);
}

/** A number in few characters. */
export function short(value: number): string {
  if (value >= 10_000) return compact.format(value);
  return value < 10 ? fraction.format(value) : whole.format(value);
}

/** A share in percent. Shows 0% and 100% only for exact values. `all` must be greater than 0. */
export function share(part: number, all: number): string {
  const percent = (100 * part) / all;
  if (part > 0 && percent < 0.1) return '<0.1%';
  if (part < all && percent > 99.9) return '>99.9%';
  return `${(percent < 10 || percent > 99 ? fraction : whole).format(percent)}%`;
}

const UNITS = ['B', 'KB', 'MB', 'GB', 'TB'];

export function bytes(value: number): string {
  const power = value < 1 ? 0 : Math.min(UNITS.length - 1, Math.floor(Math.log10(value) / 3));
  return `${short(value / 1000 ** power)} ${UNITS[power]}`;
}

export function milliseconds(value: number): string {
  return value >= 1000 ? `${fraction.format(value / 1000)} s` : `${short(value)} ms`;
}

/** A remaining time in its two largest units. */
export function timeLeft(seconds: number): string {
  if (seconds === Infinity) return 'forever';
  const left = Math.max(0, Math.ceil(seconds));
  const [days, hours] = [Math.floor(left / 86_400), Math.floor(left / 3600) % 24];
  const [minutes, rest] = [Math.floor(left / 60) % 60, left % 60];
  if (days > 0) return `${count(days)} d ${hours} h`;
  if (hours > 0) return `${hours} h ${minutes} min`;
  return minutes > 0 ? `${minutes} min ${rest} s` : `${rest} s`;
}

/** The time of day, with the date if that is not today. */
export function clockTime(at: number, now = Date.now()): string {
  const date = new Date(at);
  const time = date.toLocaleTimeString('en-GB');
  if (date.toDateString() === new Date(now).toDateString()) return time;
  return `${date.toLocaleDateString('en-GB', { day: 'numeric', month: 'short' })} ${time}`;
}
