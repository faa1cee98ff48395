// Amounts as text.

/** What `parseAmount` returns for every number below 0. */
export const BELOW_ZERO = -1;

/** Returns an amount, with or without a fraction, of at least 0; null for anything else. */
export function parseDecimal(text: string): number | null {
  return /^\d{1,15}(\.\d{1,9})?$/.test(text) ? Number(text) : null;
}

/** Returns an amount of any sign. Below 0 it is `BELOW_ZERO`. */
export function parseAmount(text: string): number | null {
  return parseDecimal(text) ?? (/^-\d{1,15}(\.\d{1,9})?$/.test(text) ? BELOW_ZERO : null);
}
