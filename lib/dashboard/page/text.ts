// Text for people: keys, which whoever is limited has chosen, numbers, and times.

/** Code points of a key that are shown; all of it is in the title. */
const SHOWN = 80;

/**
 * A key as it may be shown: what is invisible, turns the direction of text around or is half a
 * character becomes its number.
 */
export function visible(key: string): string {
  return key.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (character) => {
    const code = character.codePointAt(0) ?? 0;
    return `\\u{${code.toString(16)}}`;
  });
}

/** A key as it is shown: `short` in the table, `whole` where somebody asks. */
export function keyText(key: string, length: number): { short: string; whole: string } {
  if (key === '') return { short: '(empty)', whole: 'the empty key' };
  const text = visible(key);
  const points = [...text];
  const rest = length > key.length ? `… (${count(length)} units)` : '';
  return {
    short: points.length > SHOWN ? `${points.slice(0, SHOWN).join('')}…` : text,
    whole: text + rest,
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

const UNITS = ['B', 'KB', 'MB', 'GB', 'TB'];

export function bytes(value: number): string {
  const power = value < 1 ? 0 : Math.min(UNITS.length - 1, Math.floor(Math.log10(value) / 3));
  return `${short(value / 1000 ** power)} ${UNITS[power]}`;
}

export function milliseconds(value: number): string {
  return value >= 1000 ? `${fraction.format(value / 1000)} s` : `${short(value)} ms`;
}

/** Time that is left, in the two largest units: nobody waits for the seconds of a day. */
export function timeLeft(seconds: number): string {
  const left = Math.max(0, Math.ceil(seconds));
  const [days, hours] = [Math.floor(left / 86_400), Math.floor(left / 3600) % 24];
  const [minutes, rest] = [Math.floor(left / 60) % 60, left % 60];
  if (days > 0) return `${count(days)} d ${hours} h`;
  if (hours > 0) return `${hours} h ${minutes} min`;
  return minutes > 0 ? `${minutes} min ${rest} s` : `${rest} s`;
}
