// What the page shows, read from the limiters: samples of their totals, kept for some minutes, and lists
// of who broke limits. Knows no connections.

import { type IntervalHistogram, monitorEventLoopDelay } from 'node:perf_hooks';
import { type Figures, figuresOf, type Verdicts, type WatchedLimiter } from '../figures.js';
import type { LimiterSample, Listed, ListedBan, Listing, Sample } from './messages.js';

/** Samples that are kept: five minutes of one a second. */
export const MOST_SAMPLES = 300;
/** Bans that are named. */
const MOST_BANS = 100;
/** Units of a key that are shown: whoever is limited has chosen it, and it may be long. */
export const MOST_KEY = 2048;
/** Milliseconds between two looks at the event loop. */
const LOOP_RESOLUTION = 20;
const NO_LISTING: Listing = { at: 0, banned: 0, bans: [], violators: [] };

type Named = readonly [name: string, limiter: WatchedLimiter];

export class Feed {
  readonly samples: Sample[] = [];
  readonly #limiters: readonly Named[];
  readonly #loop: IntervalHistogram = monitorEventLoopDelay({ resolution: LOOP_RESOLUTION });
  readonly #sampling = new Share();
  readonly #listing = new Share();
  #before: (Verdicts | null)[];
  #sampledAt = performance.now();
  #latest: Listing = NO_LISTING;

  constructor(limiters: readonly Named[]) {
    this.#limiters = limiters;
    this.#before = this.#figures().map((figures) => figures?.verdicts ?? null);
    this.#loop.enable();
  }

  /** The next sample; undefined where reading has become so dear that it is not time yet. */
  sample(): Sample | undefined {
    const figures = this.#sampling.take(() => this.#figures());
    if (figures === undefined) return undefined;
    const now = performance.now();
    const seconds = (now - this.#sampledAt) / 1000;
    this.#sampledAt = now;
    const limiters = figures.map((each, i) =>
      each === null ? null : limiterSample(each, this.#before[i] ?? each.verdicts, seconds),
    );
    this.#before = figures.map((each) => each?.verdicts ?? null);
    const sample = { at: Date.now(), loopDelay: this.#loopDelay(), limiters };
    this.samples.push(sample);
    if (this.samples.length > MOST_SAMPLES) this.samples.shift();
    return sample;
  }

  /** Who broke limits. The latest list where it is too dear to make one yet, unless it `must` be new. */
  listing(must = false): Listing {
    this.#latest = this.#listing.take(() => this.#list(), must) ?? this.#latest;
    return this.#latest;
  }

  close(): void {
    this.#loop.disable();
  }

  #figures(): (Figures | null)[] {
    return this.#limiters.map(([, limiter]) => read(() => figuresOf(limiter)));
  }

  #list(): Listing {
    const bans: ListedBan[] = [];
    const violators: Listed[] = [];
    this.#limiters.forEach(([, limiter], place) => {
      const figures = read(() => figuresOf(limiter));
      for (const [key, violations] of figures?.topViolators ?? []) {
        violators.push(listed(place, key, violations));
      }
      // Of a limiter that bans nobody a snapshot would be made for nothing.
      if (!figures?.banned) return;
      for (const { key, violations, banSecondsLeft } of read(() => limiter.snapshot())?.peers ??
        []) {
        if (banSecondsLeft === null) continue;
        bans.push({ ...listed(place, key, violations), secondsLeft: banSecondsLeft });
      }
    });
    bans.sort((a, b) => b.secondsLeft - a.secondsLeft);
    violators.sort((a, b) => b.violations - a.violations);
    return { at: Date.now(), banned: bans.length, bans: bans.slice(0, MOST_BANS), violators };
  }

  #loopDelay(): number {
    // Its figures hold the pause between two looks.
    const { max } = this.#loop;
    this.#loop.reset();
    return Math.max(0, round(max / 1e6 - LOOP_RESOLUTION));
  }
}

/** Of dear work: so seldom that it takes a fiftieth of the time at the most. */
class Share {
  #notBefore = 0;

  take<T>(work: () => T, must = false): T | undefined {
    const started = performance.now();
    if (started < this.#notBefore && !must) return undefined;
    const result = work();
    const ended = performance.now();
    this.#notBefore = ended + 49 * (ended - started);
    return result;
  }
}

function limiterSample(figures: Figures, before: Verdicts, seconds: number): LimiterSample {
  const { verdicts, tracked, banned, memoryBytes } = figures;
  const rate = (verdict: keyof Verdicts) => round((verdicts[verdict] - before[verdict]) / seconds);
  return [rate('allow'), rate('delay'), rate('disconnect'), tracked, banned, memoryBytes ?? null];
}

function listed(limiter: number, key: string, violations: number): Listed {
  return { limiter, key: key.slice(0, MOST_KEY), length: key.length, violations };
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

/** A limiter whose clock fails says so where it is asked to check; here it is a gap. */
function read<T>(what: () => T): T | null {
  try {
    return what();
  } catch {
    return null;
  }
}
