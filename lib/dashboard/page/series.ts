// Converts samples to the columns that the charts draw.

import type { LimiterSample, Sample } from '../messages.js';

/** The values of one moment; null if a value is unknown. */
export interface Moment {
  readonly allow: number | null;
  readonly delay: number | null;
  readonly disconnect: number | null;
  readonly tracked: number | null;
  readonly banned: number | null;
  readonly bytes: number | null;
  readonly loopDelay: number | null;
}

export type Column = keyof Moment;

const FIELDS = ['allow', 'delay', 'disconnect', 'tracked', 'banned', 'bytes'] as const;
const GAP: Moment = {
  allow: null,
  delay: null,
  disconnect: null,
  tracked: null,
  banned: null,
  bytes: null,
  loopDelay: null,
};

/** Moments with their times, in seconds since 1970. */
export interface Series {
  readonly times: number[];
  readonly moments: Moment[];
}

/** Seconds by which the clock may be adjusted between two samples without a gap in the chart. */
const TOLERANCE = 1;

/**
 * Returns the sums of some limiters, by their places in the samples. A sample is drawn from the start of its interval. If samples
 * are missing before it, which its duration shows, there is a gap.
 */
export function seriesOf(samples: readonly Sample[], limiters: readonly number[]): Series {
  const times: number[] = [];
  const moments: Moment[] = [];
  for (const sample of samples) {
    const time = sample.at / 1000;
    const began = time - sample.seconds;
    const before = times.at(-1);
    const moment = momentOf(sample, limiters);
    if (before === undefined || began - before > TOLERANCE + sample.seconds / 2) {
      if (before !== undefined) {
        times.push((began + before) / 2);
        moments.push(GAP);
      }
      times.push(began);
      moments.push(moment);
    }
    times.push(time);
    moments.push(moment);
  }
  return { times, moments };
}

export function momentOf(sample: Sample, limiters: readonly number[]): Moment {
  const known = limiters.flatMap((place) => {
    const each = sample.limiters[place];
    return each == null ? [] : [each];
  });
  const { loopDelay } = sample;
  if (known.length === 0) return { ...GAP, loopDelay };
  const sums = FIELDS.map((_, field) => sum(known, field));
  const [allow, delay, disconnect, tracked, banned, bytes] = sums;
  return { allow, delay, disconnect, tracked, banned, bytes, loopDelay } as Moment;
}

function sum(limiters: readonly LimiterSample[], field: number): number | null {
  const values = limiters.map((limiter) => limiter[field]).filter((value) => value != null);
  return values.length === 0 ? null : values.reduce((total, value) => total + value, 0);
}
