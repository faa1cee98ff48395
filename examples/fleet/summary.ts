// The summary of a run, and the check whether the limit held.

import { type Admission, excess } from './bound.js';

export interface Outcome {
  readonly admissions: readonly Admission[];
  readonly refused: number;
  readonly calls: number;
  readonly rateLimit: number;
  readonly burstLimit: number;
  readonly seconds: number;
  /** When the store stopped and was back, in seconds of the machine's clock; undefined if it was not stopped. */
  readonly away: { readonly from: number; readonly to: number } | undefined;
  /** Tokens that relays may have granted from their share of the rate while others had the store. */
  readonly shared: number;
}

/** Returns what went wrong; an empty list if the limit held and messages were always admitted. */
export function failures(outcome: Outcome): string[] {
  const { admissions, rateLimit, burstLimit, away, shared } = outcome;
  const over = excess(admissions, rateLimit, burstLimit) - shared;
  const failed = over > 1e-6 ? [`the limit was exceeded by ${over.toFixed(2)} messages`] : [];
  const isQuiet = (from: number, to: number) => !admissions.some(({ at }) => at > from && at < to);
  if (away !== undefined) {
    if (isQuiet(away.from, away.to)) failed.push('nothing was admitted without the store');
    if (isQuiet(away.to, Infinity)) failed.push('nothing was admitted after the restart');
  }
  return failed;
}

/** Returns what the limit allows in the time of the run: burst + rate x time. */
export function most({ burstLimit, rateLimit, seconds }: Outcome): number {
  return burstLimit + rateLimit * seconds;
}

export function summary(outcome: Outcome): string {
  const { admissions, refused, calls, rateLimit, burstLimit, seconds, away } = outcome;
  const failed = failures(outcome);
  const admitted = admissions.length;
  const messages = admitted + refused;
  return [
    row('admitted by all four', count(admitted)),
    row(
      'burst + rate x time',
      `${count(most(outcome))} = ${burstLimit} + ${rateLimit} x ${seconds.toFixed(1)} s`,
    ),
    row('maximum excess in any interval', beyond(outcome)),
    row('allowed excess from shares', count(outcome.shared)),
    ...(away === undefined
      ? []
      : [row('admitted without the store', count(during(admissions, away)))]),
    row('messages per store call', (messages / Math.max(1, calls)).toFixed(1)),
    '',
    failed.length === 0 ? 'The limit held.' : `The limit did not hold: ${failed.join('; ')}.`,
  ].join('\n');
}

function beyond({ admissions, rateLimit, burstLimit }: Outcome): string {
  const over = excess(admissions, rateLimit, burstLimit);
  return over > 1e-6 ? over.toFixed(2) : 'none';
}

function during(
  admissions: readonly Admission[],
  { from, to }: { from: number; to: number },
): number {
  return admissions.filter(({ at }) => at > from && at < to).length;
}

function count(number: number): string {
  return Math.round(number).toLocaleString('en-US');
}

function row(title: string, value: string): string {
  return `${title.padEnd(32)}${value}`;
}
