// The sliders of the page: which numbers of a scenario have one, between which bounds, and how numbers are shown.

/** A slider's scale. On a logarithmic one equal steps are equal ratios. */
export interface Scale {
  readonly least: number;
  readonly most: number;
  readonly logarithmic: boolean;
  /** Whole numbers only. */
  readonly whole: boolean;
}

const log = (least: number, most: number, whole = false): Scale => {
  return { least, most, logarithmic: true, whole };
};
const SECONDS: Scale = { least: 0, most: 60, logarithmic: false, whole: false };

/** By the name of the field. */
export const SCALES: Readonly<Record<string, Scale>> = {
  rateLimit: log(0.1, 1000),
  burstLimit: log(1, 10_000, true),
  quota: log(1, 10_000, true),
  windowSeconds: log(1, 3600),
  violations: log(1, 1000, true),
  withinSeconds: log(1, 600),
  seconds: log(1, 3600),
  perSecond: log(0.1, 100),
  atOnce: log(1, 100, true),
  from: SECONDS,
  until: SECONDS,
  peers: log(1, 200, true),
};

export const LABELS: Readonly<Record<string, string>> = {
  rateLimit: 'rate, tokens per second',
  burstLimit: 'burst, tokens',
  quota: 'quota, tokens',
  windowSeconds: 'per window, seconds',
  violations: 'refusals until a ban',
  withinSeconds: 'within, seconds',
  seconds: 'ban, seconds',
  perSecond: 'messages per second',
  atOnce: 'messages at once',
  from: 'from second',
  until: 'until second',
  peers: 'peers that take turns',
};

/** The number of positions of a slider. */
export const POSITIONS = 400;

/** Returns the position of a value, bounded by the slider's ends. */
export function positionOf(value: number, { least, most, logarithmic }: Scale): number {
  const share = logarithmic
    ? Math.log(value / least) / Math.log(most / least)
    : (value - least) / (most - least);
  return Math.round(Math.min(Math.max(share, 0), 1) * POSITIONS);
}

/** Returns the value at a position, rounded to two significant digits, or to half seconds on a linear scale. */
export function valueAt(position: number, { least, most, logarithmic, whole }: Scale): number {
  const share = position / POSITIONS;
  if (!logarithmic) return Math.round((least + share * (most - least)) * 2) / 2;
  const value = Number((least * (most / least) ** share).toPrecision(2));
  return whole ? Math.round(value) : value;
}

/** Formats tokens: two decimals where they matter. */
export function format(value: number): string {
  if (!Number.isFinite(value)) return '∞';
  const digits = Math.abs(value) < 10 ? 2 : Math.abs(value) < 100 ? 1 : 0;
  const rounded = Number(value.toFixed(digits));
  return rounded.toLocaleString('en-US', { maximumFractionDigits: digits });
}

export function seconds(value: number): string {
  return Number.isFinite(value) ? `${format(value)} s` : 'for ever';
}
